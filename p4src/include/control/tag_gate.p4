// Tagged frames on the wire. Only replicas may send them, and only the two kinds that answer the controller;
// whatever else carries a tag would let a host play the controller, and is dropped.

#ifndef SPLITMERGE_TAG_GATE
#define SPLITMERGE_TAG_GATE

control TagGate(in headers_t hdr, inout metadata_t meta) {
    apply {
        if (meta.role != PortRole.REPLICA || (hdr.tag.kind != (bit<8>) TagKind.MARKER_ECHO
                                              && hdr.tag.kind != (bit<8>) TagKind.RELAY_ACK)) {
            meta.drop_reason = DropReason.FORGED_TAG;
        }
    }
}

#endif
