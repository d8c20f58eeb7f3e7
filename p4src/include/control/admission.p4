// Refuses what no later control could treat: malformed, wrong checksum, not IP, not unicast; and packet-outs, which are
// the controller's alone. ARP, neighbour discovery and tagged frames pass; they have controls of their own.

#ifndef SPLITMERGE_ADMISSION
#define SPLITMERGE_ADMISSION

control Admission(in headers_t hdr, inout metadata_t meta, in standard_metadata_t standard_metadata) {
    apply {
        if (standard_metadata.parser_error != error.NoError) {
            meta.drop_reason = DropReason.MALFORMED;
        } else if (hdr.packet_out.isValid()) {
            meta.drop_reason = DropReason.FORGED_PACKET_OUT;
        } else if (standard_metadata.checksum_error == 1) {
            meta.drop_reason = DropReason.BAD_CHECKSUM;
        } else if (hdr.ipv4.isValid()) {
            // The group bit of the MAC, class D, and the limited broadcast.
            if (hdr.ethernet.dst_addr[40:40] == 1
                    || hdr.ipv4.dst_addr[31:28] == 0xE || hdr.ipv4.dst_addr == 0xFFFFFFFF) {
                meta.drop_reason = DropReason.NOT_UNICAST;
            }
        } else if (hdr.ipv6.isValid()) {
            // Solicitations come by multicast.
            if (!hdr.nd.isValid()
                    && (hdr.ethernet.dst_addr[40:40] == 1 || hdr.ipv6.dst_addr[127:120] == 0xFF)) {
                meta.drop_reason = DropReason.NOT_UNICAST;
            }
        } else if (!hdr.arp.isValid() && !hdr.tag.isValid()) {
            meta.drop_reason = DropReason.NOT_IP;
        }
    }
}

#endif
