// Tagged frames on the wire. Replicas may send the two kinds that answer the controller, and LOOP, which comes back to
// them; other switches may send what they have steered; whatever else carries a tag would let a host play the
// controller, and is dropped.

#ifndef SPLITMERGE_TAG_GATE
#define SPLITMERGE_TAG_GATE

control TagGate(
        in headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata, inout bool steered,
        inout bool answer) {
    apply {
        if (meta.role == PortRole.TRUNK && hdr.tag.kind == (bit<8>) TagKind.TRUNK) {
            if (hdr.tag.flags >= MAX_TRUNKS) {
                meta.drop_reason = DropReason.TOO_FAR;
            } else {
                meta.replica = (replica_t) hdr.tag.sequence;
                steered = true;
            }
        } else if (meta.role == PortRole.REPLICA && hdr.tag.kind == (bit<8>) TagKind.LOOP) {
            standard_metadata.egress_spec = standard_metadata.ingress_port;
        } else if (meta.role == PortRole.REPLICA && (hdr.tag.kind == (bit<8>) TagKind.MARKER_ECHO
                                                     || hdr.tag.kind == (bit<8>) TagKind.RELAY_ACK)) {
            answer = true;
        } else {
            meta.drop_reason = DropReason.FORGED_TAG;
        }
    }
}

#endif
