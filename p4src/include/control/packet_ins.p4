// Egress: what goes to the controller tells it why it comes and which flow it is of. Through the CPU port that is all;
// through any other port, which is then the punt port, it becomes an Ethernet frame that the controller's host can read.

#ifndef SPLITMERGE_PACKET_INS
#define SPLITMERGE_PACKET_INS

control PacketIns(inout headers_t hdr, in metadata_t meta, in standard_metadata_t standard_metadata) {

    @hidden action add_packet_in() {
        hdr.packet_in.setValid();
        hdr.packet_in.ingress_port = meta.ingress_port;
        hdr.packet_in._pad = 0;
        hdr.packet_in.reason = meta.punt_reason;
        hdr.packet_in.version = meta.version;
        hdr.packet_in.protocol = meta.protocol;
        hdr.packet_in.bucket = meta.bucket;
        hdr.packet_in.replica = meta.replica;
        hdr.packet_in.low_addr = meta.low_addr_v6;
        hdr.packet_in.high_addr = meta.high_addr_v6;
        hdr.packet_in.low_port = meta.low_port;
        hdr.packet_in.high_port = meta.high_port;
    }

    @hidden action use_ipv4_addresses() {
        hdr.packet_in.low_addr = (ipv6_addr_t) meta.low_addr_v4;
        hdr.packet_in.high_addr = (ipv6_addr_t) meta.high_addr_v4;
    }

    @hidden action add_punt_frame() {
        hdr.punt_frame.setValid();
        hdr.punt_frame.dst_addr = MAC_PUNT_CONTROLLER;
        hdr.punt_frame.src_addr = MAC_PUNT_SWITCH;
        hdr.punt_frame.ether_type = ETHERTYPE_PUNT;
    }

    apply {
        if (meta.punt_reason != (bit<8>) PuntReason.NONE) {
            add_packet_in();
            if (meta.version == 4) {
                use_ipv4_addresses();
            }
            if (standard_metadata.egress_port != CPU_PORT) {
                add_punt_frame();
            }
        }
    }
}

#endif
