// Frames from the controller: sent out as they are, or with a tag pushed in front of their EtherType.
//
//   kind       tag pushed   goes to
//   PLAIN      no           egress_port
//   RELAYED    yes          egress_port (a replica's)
//   MARKER     yes          egress_port (a replica's): it queues behind all that was steered there before
//   END        yes          egress_port (a replica's)
//   LOOP       yes          the port it came from: it queues behind all clones made before, and comes back as a packet-in
//
// They come through the CPU port (P4Runtime's packet-outs) or through the punt port, in Ethernet frames of their own.
// A packet-out has the same way through the switch's queues as data, and that is the point of markers.

#ifndef SPLITMERGE_PACKET_OUTS
#define SPLITMERGE_PACKET_OUTS

control PacketOuts(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {

    @hidden action push_tag() {
        hdr.tag.setValid();
        hdr.tag.kind = hdr.packet_out.kind;
        hdr.tag.flags = 0;
        hdr.tag.epoch = hdr.packet_out.epoch;
        hdr.tag.sequence = hdr.packet_out.sequence;
        hdr.tag.ether_type = hdr.ethernet.ether_type;
        hdr.ethernet.ether_type = ETHERTYPE_TAG;
    }

    apply {
        hdr.punt_frame.setInvalid();
        if (standard_metadata.parser_error != error.NoError    // not even an Ethernet header
                || !hdr.packet_out.isValid()                   // on the punt port: something else than a punt frame
                || hdr.packet_out.kind > (bit<8>) TagKind.LOOP) {
            meta.drop_reason = DropReason.BAD_PACKET_OUT;
        } else if (hdr.packet_out.kind == (bit<8>) TagKind.LOOP) {
            push_tag();
            meta.punt_reason = (bit<8>) PuntReason.TAGGED;
            standard_metadata.egress_spec = standard_metadata.ingress_port;
        } else if (hdr.packet_out.egress_port == CPU_PORT || hdr.packet_out.egress_port == DROP_PORT) {
            meta.drop_reason = DropReason.BAD_PACKET_OUT;
        } else {
            if (hdr.packet_out.kind != (bit<8>) TagKind.PLAIN) {
                push_tag();
            }
            standard_metadata.egress_spec = hdr.packet_out.egress_port;
        }
    }
}

#endif
