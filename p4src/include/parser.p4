// Parser and deparser.
//
//   start ─ CPU port ──────────────────► packet_out ─► Ethernet ─► accept    (the controller's frames are not
//     └─ other ports ─┬─► punt frame ────┘                                    looked into)
//                     └─► Ethernet ┬─► tag ─► accept             (nor are tagged ones)
//                                  ├─► ARP ─► accept
//                                  ├─► IPv4 (+ options) ─┬─► accept (a fragment, or another protocol: ports 0)
//                                  │                     ├─► TCP/UDP ports ─► accept
//                                  │                     └─► ICMP ─┬─► echo ─► accept
//                                  └─► IPv6 (+ fragment) ┴ …       └─► neighbour solicitation ─► accept
//
// A packet that is too short for a header, or says what cannot be, leaves with parser_error set; control
// Admission then drops it.

#ifndef SPLITMERGE_PARSER
#define SPLITMERGE_PARSER

error {
    BadIpv4Version,
    BadIpv4HeaderLength,
    BadIpv6Version
}

parser SplitmergeParser(
        packet_in packet,
        out headers_t hdr,
        inout metadata_t meta,
        inout standard_metadata_t standard_metadata) {

    state start {
        meta.ingress_port = standard_metadata.ingress_port;
        transition select(standard_metadata.ingress_port) {
            CPU_PORT: parse_packet_out;
            default:  parse_frame;
        }
    }

    // Whether the sender may send packet-outs is for the port's role to say, and a parser cannot ask a table.
    state parse_frame {
        // The EtherType is the last two of the fourteen bytes of an Ethernet header.
        transition select(packet.lookahead<bit<112>>()) {
            (bit<112>) ETHERTYPE_PUNT &&& 0xFFFF: parse_punt_frame;
            default:                              parse_ethernet;
        }
    }

    state parse_punt_frame {
        packet.extract(hdr.punt_frame);
        transition parse_packet_out;
    }

    state parse_packet_out {
        packet.extract(hdr.packet_out);
        packet.extract(hdr.ethernet);
        transition accept;
    }

    state parse_ethernet {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ether_type) {
            ETHERTYPE_IPV4: parse_ipv4;
            ETHERTYPE_IPV6: parse_ipv6;
            ETHERTYPE_ARP:  parse_arp;
            ETHERTYPE_TAG:  parse_tag;
            default:        accept;
        }
    }

    state parse_tag {
        packet.extract(hdr.tag);
        transition accept;
    }

    state parse_arp {
        packet.extract(hdr.arp);
        transition accept;
    }

    // -- IPv4 -----------------------------------------------------------------------------------------

    state parse_ipv4 {
        packet.extract(hdr.ipv4);
        verify(hdr.ipv4.version == 4, error.BadIpv4Version);
        verify(hdr.ipv4.ihl >= IPV4_MIN_IHL, error.BadIpv4HeaderLength);
        meta.protocol = hdr.ipv4.protocol;
        transition select(hdr.ipv4.ihl) {
            IPV4_MIN_IHL: parse_ipv4_payload;
            default:      parse_ipv4_options;
        }
    }

    state parse_ipv4_options {
        // ihl counts words of 32 bits.
        packet.extract(hdr.ipv4_options, ((bit<32>) (hdr.ipv4.ihl - IPV4_MIN_IHL)) << 5);
        transition parse_ipv4_payload;
    }

    state parse_ipv4_payload {
        // Only the first fragment has ports, so none may be used: all fragments of a datagram share a key.
        transition select(hdr.ipv4.more_fragments, hdr.ipv4.fragment_offset, hdr.ipv4.protocol) {
            (0, 0, PROTOCOL_TCP):  parse_l4_ports;
            (0, 0, PROTOCOL_UDP):  parse_l4_ports;
            (0, 0, PROTOCOL_ICMP): parse_icmp;
            default:               accept;
        }
    }

    // -- IPv6 -----------------------------------------------------------------------------------------

    state parse_ipv6 {
        packet.extract(hdr.ipv6);
        verify(hdr.ipv6.version == 6, error.BadIpv6Version);
        meta.protocol = hdr.ipv6.next_header;
        transition select(hdr.ipv6.next_header) {
            PROTOCOL_TCP:      parse_l4_ports;
            PROTOCOL_UDP:      parse_l4_ports;
            PROTOCOL_ICMPV6:   parse_icmpv6;
            PROTOCOL_FRAGMENT: parse_ipv6_fragment;
            default:           accept;    // other extension headers: keyed by their own number, ports 0
        }
    }

    state parse_ipv6_fragment {
        packet.extract(hdr.ipv6_fragment);
        meta.protocol = hdr.ipv6_fragment.next_header;
        transition accept;
    }

    // -- behind IP ------------------------------------------------------------------------------------

    state parse_l4_ports {
        packet.extract(hdr.l4_ports);
        meta.src_port = hdr.l4_ports.src_port;
        meta.dst_port = hdr.l4_ports.dst_port;
        transition accept;
    }

    state parse_icmp {
        packet.extract(hdr.icmp);
        transition select(hdr.icmp.type) {
            ICMP_ECHO_REQUEST: parse_icmp_echo;
            ICMP_ECHO_REPLY:   parse_icmp_echo;
            default:           accept;
        }
    }

    state parse_icmpv6 {
        packet.extract(hdr.icmp);
        transition select(hdr.icmp.type) {
            ICMPV6_ECHO_REQUEST: parse_icmp_echo;
            ICMPV6_ECHO_REPLY:   parse_icmp_echo;
            ND_SOLICITATION:     parse_nd;
            default:             accept;
        }
    }

    state parse_icmp_echo {
        packet.extract(hdr.icmp_echo);
        // Request and reply carry the same identifier; as both ports it makes them one flow.
        meta.src_port = hdr.icmp_echo.identifier;
        meta.dst_port = hdr.icmp_echo.identifier;
        transition accept;
    }

    state parse_nd {
        packet.extract(hdr.nd);
        transition select(hdr.ipv6.payload_length) {
            ND_BARE_LENGTH: accept;
            default:        parse_nd_option;    // the answer's option takes the place of the first one
        }
    }

    state parse_nd_option {
        packet.extract(hdr.nd_option);
        transition accept;
    }
}

// Emits the headers that are valid, in the order of the wire. packet_out is never emitted: it ends here.
control SplitmergeDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.punt_frame);
        packet.emit(hdr.packet_in);
        packet.emit(hdr.ethernet);
        packet.emit(hdr.tag);
        packet.emit(hdr.arp);
        packet.emit(hdr.ipv4);
        packet.emit(hdr.ipv4_options);
        packet.emit(hdr.ipv6);
        packet.emit(hdr.ipv6_fragment);
        packet.emit(hdr.l4_ports);
        packet.emit(hdr.icmp);
        packet.emit(hdr.icmp_echo);
        packet.emit(hdr.nd);
        packet.emit(hdr.nd_option);
    }
}

#endif
