// Headers on the wire, headers to and from the controller, and the metadata of one packet.

#ifndef SPLITMERGE_HEADER
#define SPLITMERGE_HEADER

// -- to and from the controller -----------------------------------------------------------------------
// Through the CPU port, P4Runtime's, these stand in front of the frame and P4Runtime makes metadata of them. Through a
// punt port, an Ethernet port like any other, there is an Ethernet header of its own (ETHERTYPE_PUNT) in front of them.

// In front of every frame that the controller sends: what to do with it.
@controller_header("packet_out")
header packet_out_t {
    port_t  egress_port;    // where it goes (not for LOOP)
    bit<7>  _pad;
    bit<8>  kind;           // TagKind: PLAIN, RELAYED, MARKER, END or LOOP
    bit<32> epoch;          // for the tag (not for PLAIN)
    bit<32> sequence;       // for the tag (not for PLAIN)
}

// In front of every frame that the controller gets: why, and to which flow it belongs.
// All fields behind `reason`, except `replica`, are 0 if the reason is TAGGED.
@controller_header("packet_in")
header packet_in_t {
    port_t      ingress_port;
    bit<7>      _pad;
    bit<8>      reason;       // PuntReason
    bit<8>      version;      // 4 or 6
    bit<8>      protocol;
    bucket_t    bucket;
    replica_t   replica;      // of the flow (SUSPENDED) or of the port (TAGGED; 0 for a LOOP, this switch for a FENCE)
    ipv6_addr_t low_addr;     // an IPv4 address is in the low 32 bits
    ipv6_addr_t high_addr;
    l4_port_t   low_port;
    l4_port_t   high_port;
}

// -- on the wire --------------------------------------------------------------------------------------

header ethernet_t {
    mac_addr_t dst_addr;
    mac_addr_t src_addr;
    bit<16>    ether_type;
}

// Splitmerge's own signal. Stands where a VLAN tag would; ether_type is the untagged frame's.
header tag_t {
    bit<8>  kind;        // TagKind
    bit<8>  flags;       // TRUNK: trunks crossed before this one; else 0
    bit<32> epoch;
    bit<32> sequence;
    bit<16> ether_type;
}

header arp_t {
    bit<16>     hardware_type;
    bit<16>     protocol_type;
    bit<8>      hardware_length;
    bit<8>      protocol_length;
    bit<16>     opcode;
    mac_addr_t  sender_mac;
    ipv4_addr_t sender_addr;
    mac_addr_t  target_mac;
    ipv4_addr_t target_addr;
}

header ipv4_t {
    bit<4>      version;
    bit<4>      ihl;
    bit<8>      dscp_ecn;
    bit<16>     total_length;
    bit<16>     identification;
    bit<1>      reserved;
    bit<1>      dont_fragment;
    bit<1>      more_fragments;
    bit<13>     fragment_offset;
    bit<8>      ttl;
    bit<8>      protocol;
    bit<16>     checksum;
    ipv4_addr_t src_addr;
    ipv4_addr_t dst_addr;
}

// Options are carried, never read. The checksum covers them.
header ipv4_options_t {
    varbit<320> options;
}

header ipv6_t {
    bit<4>      version;
    bit<8>      traffic_class;
    bit<20>     flow_label;
    bit<16>     payload_length;
    bit<8>      next_header;
    bit<8>      hop_limit;
    ipv6_addr_t src_addr;
    ipv6_addr_t dst_addr;
}

header ipv6_fragment_t {
    bit<8>  next_header;
    bit<8>  reserved;
    bit<13> fragment_offset;
    bit<2>  reserved2;
    bit<1>  more_fragments;
    bit<32> identification;
}

// TCP and UDP both begin with their ports. Nothing behind is looked at, so it stays payload.
header l4_ports_t {
    l4_port_t src_port;
    l4_port_t dst_port;
}

// ICMP and ICMPv6 both begin like this.
header icmp_t {
    bit<8>  type;
    bit<8>  code;
    bit<16> checksum;
}

header icmp_echo_t {
    bit<16> identifier;
    bit<16> sequence;
}

// Neighbour solicitation (flags reserved) and advertisement, RFC 4861 §4.3, §4.4.
header nd_t {
    bit<32>     flags;
    ipv6_addr_t target_addr;
}

// Any option of eight bytes; ours is the target's link-layer address, RFC 4861 §4.6.1.
header nd_option_t {
    bit<8>     type;
    bit<8>     length;    // in units of eight bytes
    mac_addr_t mac;
}

struct headers_t {
    ethernet_t      punt_frame;       // only valid on its way through the punt port
    packet_in_t     packet_in;
    packet_out_t    packet_out;
    ethernet_t      ethernet;
    tag_t           tag;
    arp_t           arp;
    ipv4_t          ipv4;
    ipv4_options_t  ipv4_options;
    ipv6_t          ipv6;
    ipv6_fragment_t ipv6_fragment;
    l4_ports_t      l4_ports;
    icmp_t          icmp;
    icmp_echo_t     icmp_echo;
    nd_t            nd;
    nd_option_t     nd_option;
}

// -- metadata -----------------------------------------------------------------------------------------
// v1model starts every field at 0; the parser writes src_port, dst_port and protocol, the controls the rest.
// A clone begins as a new packet: only what is in the field list PUNT_FIELDS survives into its egress.

struct metadata_t {
    // v1model's own ingress_port reads 0 in a clone, whose metadata BMv2 resets after parsing it again; this does not.
    @field_list(PUNT_FIELDS)
    port_t      ingress_port;

    // The layer-4 endpoints as parsed; 0 for fragments and for protocols without. Only valid if the packet is IP.
    l4_port_t   src_port;
    l4_port_t   dst_port;

    PortRole    role;          // of the ingress port
    DropReason  drop_reason;   // NONE as long as nothing spoke against the packet
    bit<1>      suspend;       // only valid after the flow and bucket tables

    // The symmetric flow key. Only valid after control SymmetricKey.
    @field_list(PUNT_FIELDS)
    bit<8>      version;       // 4: the _v4 addresses are valid; 6: the _v6 addresses are
    @field_list(PUNT_FIELDS)
    bit<8>      protocol;
    @field_list(PUNT_FIELDS)
    ipv4_addr_t low_addr_v4;
    @field_list(PUNT_FIELDS)
    ipv4_addr_t high_addr_v4;
    @field_list(PUNT_FIELDS)
    ipv6_addr_t low_addr_v6;
    @field_list(PUNT_FIELDS)
    ipv6_addr_t high_addr_v6;
    @field_list(PUNT_FIELDS)
    l4_port_t   low_port;
    @field_list(PUNT_FIELDS)
    l4_port_t   high_port;
    @field_list(PUNT_FIELDS)
    bucket_t    bucket;

    // From a host: the replica that the flow or bucket table named. From a replica: that replica. From a trunk, if
    // tagged: whom the tag names.
    @field_list(PUNT_FIELDS)
    replica_t   replica;

    @field_list(PUNT_FIELDS)
    bit<8>      punt_reason;   // PuntReason; NONE unless the packet (or its clone) goes to the controller
}

#endif
