// Where a replica is: behind this switch, or behind another one, which a trunk leads to. The packet arrives as it came:
// every replica has the MAC and the addresses of the middlebox.
//
// Entries that the control plane installs:
//   replica   7        → to_replica(11)     one for each replica behind this switch, while it lives
//             8        → over_trunk(21)     one for each replica behind another switch
//             0xF001   → to_controller()    this switch's own number, if there are others
//             0xF002   → over_trunk(21)     one for each other switch's number
//
// Only the switch where a packet comes in from a host asks the flow tables. It pushes a tag that names the replica, and
// the others follow that: no two of them can disagree, whatever their flow tables say, so no packet goes in circles
// while flows move. The last switch takes the tag off. Frames that the controller sends from one switch to a replica or
// a controller port of another have the same tag, and so the same way through the same queues as data.

#ifndef SPLITMERGE_REPLICA
#define SPLITMERGE_REPLICA

control Replica(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {

    Punt() punt;

    action to_replica(port_t port) {
        standard_metadata.egress_spec = port;
    }

    action over_trunk(port_t port) {
        standard_metadata.egress_spec = port;
    }

    action to_controller() {
    }

    action no_replica() {
        meta.drop_reason = DropReason.NO_REPLICA;
    }

    table replica {
        key = {
            meta.replica : exact @name("replica");
        }
        actions = {
            to_replica;
            over_trunk;
            to_controller;
            @defaultonly no_replica;
        }
        const default_action = no_replica();
        size = REPLICA_SIZE;
    }

    @hidden action push_trunk_tag() {
        hdr.tag.setValid();
        hdr.tag.kind = (bit<8>) TagKind.TRUNK;
        hdr.tag.flags = 0;
        hdr.tag.epoch = 0;
        hdr.tag.sequence = (bit<32>) meta.replica;
        hdr.tag.ether_type = hdr.ethernet.ether_type;
        hdr.ethernet.ether_type = ETHERTYPE_TAG;
    }

    @hidden action pop_trunk_tag() {
        hdr.ethernet.ether_type = hdr.tag.ether_type;
        hdr.tag.setInvalid();
    }

    @hidden action count_trunk() {
        hdr.tag.flags = hdr.tag.flags + 1;
    }

    apply {
        switch (replica.apply().action_run) {
            over_trunk: {
                if (meta.role == PortRole.TRUNK) {
                    count_trunk();
                } else {
                    push_trunk_tag();
                }
            }
            to_replica: {
                if (meta.role == PortRole.TRUNK) {
                    pop_trunk_tag();
                }
            }
            to_controller: {
                punt.apply(meta, PuntReason.TAGGED);
            }
        }
    }
}

#endif
