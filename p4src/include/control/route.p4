// Packets from replicas go on by destination: the middlebox is a router, and this is its forwarding half. All switches
// together are one router: a packet that came over a trunk has been through it, and its TTL stays.
//
// Entries that the control plane installs:
//   route_v4   10.0.1.0/24   → forward(port, src_mac, dst_mac)     the port of the network, the middlebox's MAC, and
//   route_v6   fd00:1::/64   → forward(port, src_mac, dst_mac)     the MAC of the host or next router
//
// Where the network is behind another switch, the port is a trunk's. The ways to one network form a tree.

#ifndef SPLITMERGE_ROUTE
#define SPLITMERGE_ROUTE

control Route(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {

    action forward(port_t port, mac_addr_t src_mac, mac_addr_t dst_mac) {
        standard_metadata.egress_spec = port;
        hdr.ethernet.src_addr = src_mac;
        hdr.ethernet.dst_addr = dst_mac;
    }

    action no_route() {
        meta.drop_reason = DropReason.NO_ROUTE;
    }

    @hidden action ttl_expired() {
        meta.drop_reason = DropReason.TTL_EXPIRED;
    }

    table route_v4 {
        key = {
            hdr.ipv4.dst_addr : lpm @name("dst");
        }
        actions = {
            forward;
            @defaultonly no_route;
        }
        const default_action = no_route();
        size = ROUTE_SIZE;
    }

    table route_v6 {
        key = {
            hdr.ipv6.dst_addr : lpm @name("dst");
        }
        actions = {
            forward;
            @defaultonly no_route;
        }
        const default_action = no_route();
        size = ROUTE_SIZE;
    }

    // The checksum is a sum in one's complement, so a TTL that is one less makes it 0x0100 more, and a carry out of the
    // top comes back in at the bottom. RFC 1624's equation 3 carries exactly from 0xFEFF upwards. No carry bit is
    // needed, and no other byte of the header is read: options may be there or not.
    @hidden action decrement_ttl() {
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
        hdr.ipv4.checksum = hdr.ipv4.checksum + 0x0100;
    }

    @hidden action decrement_ttl_with_carry() {
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
        hdr.ipv4.checksum = hdr.ipv4.checksum + 0x0101;
    }

    apply {
        bool first = meta.role == PortRole.REPLICA;
        if (hdr.ipv4.isValid()) {
            if (first && hdr.ipv4.ttl <= 1) {
                ttl_expired();
            } else if (route_v4.apply().hit && first) {
                if (hdr.ipv4.checksum < 0xFEFF) {
                    decrement_ttl();
                } else {
                    decrement_ttl_with_carry();
                }
            }
        } else {
            if (first && hdr.ipv6.hop_limit <= 1) {
                ttl_expired();
            } else if (route_v6.apply().hit && first) {
                hdr.ipv6.hop_limit = hdr.ipv6.hop_limit - 1;
            }
        }
    }
}

#endif
