// Answers hosts' ARP requests for the middlebox's addresses. All replicas share these addresses and one MAC, so
// there is nothing to learn, and no replica need be asked.
//
// Entries that the control plane installs:
//   arp   target 10.0.1.1   → arp_reply(02:00:00:00:00:fe)      one for each address of the middlebox

#ifndef SPLITMERGE_ARP_RESPONDER
#define SPLITMERGE_ARP_RESPONDER

control ArpResponder(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {

    action arp_reply(mac_addr_t mac) {
        hdr.ethernet.dst_addr = hdr.arp.sender_mac;
        hdr.ethernet.src_addr = mac;

        ipv4_addr_t asked = hdr.arp.target_addr;
        hdr.arp.opcode = ARP_REPLY;
        hdr.arp.target_mac = hdr.arp.sender_mac;
        hdr.arp.target_addr = hdr.arp.sender_addr;
        hdr.arp.sender_mac = mac;
        hdr.arp.sender_addr = asked;

        standard_metadata.egress_spec = standard_metadata.ingress_port;
    }

    action unanswered() {
        meta.drop_reason = DropReason.UNANSWERED;
    }

    table arp {
        key = {
            hdr.arp.target_addr : exact @name("target");
        }
        actions = {
            arp_reply;
            @defaultonly unanswered;
        }
        const default_action = unanswered();
        size = NEIGHBOR_SIZE;
    }

    apply {
        if (meta.role == PortRole.HOST
                && hdr.arp.opcode == ARP_REQUEST
                && hdr.arp.hardware_type == ARP_HARDWARE_ETHERNET
                && hdr.arp.protocol_type == ETHERTYPE_IPV4
                && hdr.arp.hardware_length == ARP_LENGTH_ETHERNET
                && hdr.arp.protocol_length == ARP_LENGTH_IPV4) {
            arp.apply();
        } else {
            unanswered();
        }
    }
}

#endif
