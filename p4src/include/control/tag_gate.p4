// Tagged frames on the wire. Replicas may send the two kinds that answer the controller, other switches may send what
// they have steered; whatever else carries a tag would let a host play the controller, and is dropped.

#ifndef SPLITMERGE_TAG_GATE
#define SPLITMERGE_TAG_GATE

control TagGate(in headers_t hdr, inout metadata_t meta, inout bool steered) {
    apply {
        if (meta.role == PortRole.TRUNK && hdr.tag.kind == (bit<8>) TagKind.TRUNK) {
            if (hdr.tag.flags >= MAX_TRUNKS) {
                meta.drop_reason = DropReason.TOO_FAR;
            } else {
                meta.replica = (replica_t) hdr.tag.sequence;
                steered = true;
            }
        } else if (meta.role != PortRole.REPLICA || (hdr.tag.kind != (bit<8>) TagKind.MARKER_ECHO
                                                     && hdr.tag.kind != (bit<8>) TagKind.RELAY_ACK)) {
            meta.drop_reason = DropReason.FORGED_TAG;
        }
    }
}

#endif
