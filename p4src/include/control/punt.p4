// To the controller instead of a replica: a clone, taken as the packet came in, with the packet-in header (control
// PacketIns); the original is dropped. The clone joins the queue of the controller's port in the order of arrival,
// behind earlier clones and before later LOOP frames.
//
// The control plane makes clone session CPU_CLONE_SESSION: one copy, to CPU_PORT or to the punt port. The session alone
// says where the controller is. Without it the packets are lost (v1model says nothing of a clone to no session), so the
// controller makes it first.

#ifndef SPLITMERGE_PUNT
#define SPLITMERGE_PUNT

control Punt(inout metadata_t meta, in PuntReason reason) {
    apply {
        meta.punt_reason = (bit<8>) reason;
        meta.drop_reason = DropReason.PUNTED;
        clone_preserving_field_list(CloneType.I2E, CPU_CLONE_SESSION, PUNT_FIELDS);
    }
}

#endif
