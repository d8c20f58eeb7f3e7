// Answers hosts' IPv6 neighbour solicitations for the middlebox's addresses (RFC 4861 §7.2.4).
// No other neighbour discovery is answered, and none is steered: it concerns one link only.
//
// Entries that the control plane installs:
//   neighbor   target fd00:1::1   → neighbor_reply(02:00:00:00:00:fe)      one for each address of the middlebox
//
// The advertisement is 32 bytes of ICMPv6 whatever options the solicitation had. What is left of them stays behind
// the end that the IPv6 header gives, as Ethernet padding does, and so need not be cut off.

#ifndef SPLITMERGE_NEIGHBOR_RESPONDER
#define SPLITMERGE_NEIGHBOR_RESPONDER

control NeighborResponder(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {

    action neighbor_reply(mac_addr_t mac) {
        hdr.ethernet.dst_addr = hdr.ethernet.src_addr;
        hdr.ethernet.src_addr = mac;

        hdr.ipv6.payload_length = ND_WITH_OPTION_LENGTH;
        hdr.ipv6.dst_addr = hdr.ipv6.src_addr;
        hdr.ipv6.src_addr = hdr.nd.target_addr;

        hdr.icmp.type = ND_ADVERTISEMENT;    // its checksum: checksum.p4
        hdr.nd.flags = ND_ROUTER_SOLICITED_OVERRIDE;
        hdr.nd_option.setValid();
        hdr.nd_option.type = ND_OPTION_TARGET_MAC;
        hdr.nd_option.length = 1;
        hdr.nd_option.mac = mac;

        standard_metadata.egress_spec = standard_metadata.ingress_port;
    }

    // A host that has no address yet asks whether it may take this one: everybody is told that it is taken.
    @hidden action advertise_to_all() {
        hdr.ethernet.dst_addr = MAC_ALL_NODES;
        hdr.ipv6.dst_addr = IPV6_ALL_NODES;
        hdr.nd.flags = ND_ROUTER_OVERRIDE;
    }

    action unanswered() {
        meta.drop_reason = DropReason.UNANSWERED;
    }

    table neighbor {
        key = {
            hdr.nd.target_addr : exact @name("target");
        }
        actions = {
            neighbor_reply;
            @defaultonly unanswered;
        }
        const default_action = unanswered();
        size = NEIGHBOR_SIZE;
    }

    apply {
        if (meta.role == PortRole.HOST
                && hdr.nd.isValid() && hdr.icmp.code == 0
                && hdr.ipv6.hop_limit == ND_HOP_LIMIT && hdr.ipv6.payload_length >= ND_BARE_LENGTH) {
            if (neighbor.apply().hit) {
                if (hdr.ipv6.dst_addr == IPV6_UNSPECIFIED) {    // where neighbor_reply put the asker's address
                    advertise_to_all();
                }
            }
        } else {
            unanswered();
        }
    }
}

#endif
