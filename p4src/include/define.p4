// Names and numbers of the whole program. What Python also needs (DropReason, PuntReason, TagKind) is
// compared with this file by tests/p4src, so change both together.

#ifndef SPLITMERGE_DEFINE
#define SPLITMERGE_DEFINE

// -- sizes --------------------------------------------------------------------------------------------
// The number of entries that each table holds at least. The two flow tables are what fits into a Tofino 1.

#define PORT_ROLE_SIZE   64
#define FLOW_V4_SIZE     262144
#define FLOW_V6_SIZE     131072
#define BUCKET_SIZE      1024
#define REPLICA_SIZE     1024
#define ROUTE_SIZE       1024
#define NEIGHBOR_SIZE    64
#define DROP_REASONS     16

// -- types --------------------------------------------------------------------------------------------

typedef bit<9>   port_t;
typedef bit<48>  mac_addr_t;
typedef bit<32>  ipv4_addr_t;
typedef bit<128> ipv6_addr_t;
typedef bit<16>  l4_port_t;
typedef bit<16>  bucket_t;
typedef bit<16>  replica_t;

// -- the switch ---------------------------------------------------------------------------------------

const port_t   CPU_PORT          = 510;    // --cpu-port of the switch: P4Runtime's packet-ins and packet-outs
const port_t   DROP_PORT         = 511;    // v1model's mark_to_drop() writes this number
const bit<32>  CPU_CLONE_SESSION = 1;      // the control plane makes it: one copy, to CPU_PORT or to the punt port
const bit<8>   PUNT_FIELDS       = 1;      // the field list that a clone takes along
const bucket_t FIRST_BUCKET      = 0;
const bucket_t BUCKETS           = 1024;   // a power of two: the bucket is the low ten bits of the CRC
const bit<8>   MAX_TRUNKS        = 16;     // a frame that has crossed so many goes round in circles

// What a port is for; table port_role says it. A port without an entry is nobody's.
enum bit<8> PortRole {
    NOBODY     = 0,
    HOST       = 1,    // clients and servers: their packets are steered by flow
    REPLICA    = 2,    // middlebox replicas: their packets are forwarded by destination
    CONTROLLER = 3,    // CPU_PORT, and the punt port if there is one: packet-outs
    TRUNK      = 4     // another switch of this kind: what it has decided is carried out
}

// Why a packet went no further: index of the counter `drops`.
enum bit<8> DropReason {
    NONE           = 0,     // not dropped; this index stays 0
    PUNTED         = 1,     // no loss: the controller has the packet
    UNKNOWN_PORT   = 2,     // table port_role has no entry for the port
    MALFORMED      = 3,     // cut short, or a version or length that cannot be
    BAD_CHECKSUM   = 4,     // IPv4 header checksum
    FORGED_TAG     = 5,     // a tag from a host, or one that only another kind of port may send
    NOT_IP         = 6,     // neither ARP nor IP nor tagged
    NOT_UNICAST    = 7,     // multicast or broadcast that is neither ARP nor neighbour discovery
    UNANSWERED     = 8,     // ARP or neighbour discovery that is not the switch's to answer
    NO_BUCKET      = 9,     // no flow entry, and the bucket has none either
    NO_REPLICA     = 10,    // the flow's replica has no port
    NO_ROUTE       = 11,    // from a replica, to an unknown destination
    TTL_EXPIRED    = 12,    // from a replica, with TTL or hop limit 0 or 1
    BAD_PACKET_OUT = 13,    // the controller asked for a kind or a port that cannot be
    FORGED_PACKET_OUT = 14, // a punt frame from a host, a replica or a trunk
    TOO_FAR        = 15     // over MAX_TRUNKS trunks, and still not there
}

// Why a packet is at the controller: `reason` of the packet-in header.
enum bit<8> PuntReason {
    NONE      = 0,
    SUSPENDED = 1,    // its flow (or bucket) is being moved
    NEW_FLOW  = 2,    // its bucket says: ask the controller
    TAGGED    = 3     // a signal to the controller: MARKER_ECHO or RELAY_ACK of a replica, its own LOOP or FENCE
}

// What a tag means (splitmerge/tag.py); also `kind` of the packet-out header.
enum bit<8> TagKind {
    PLAIN       = 0,    // no tag (only in packet-outs)
    RELAYED     = 1,    // controller → replica: a buffered packet of a suspended flow
    MARKER      = 2,    // controller → replica: all that the switch sent earlier is before this frame
    END         = 3,    // controller → replica: no more relayed packets in this epoch
    LOOP        = 4,    // controller → switch → controller: all clones made earlier are before this frame;
                        // replica → switch → replica: the switch has taken all that the replica sent earlier
    MARKER_ECHO = 5,    // replica → controller: the marker was met
    RELAY_ACK   = 6,    // replica → controller: next relayed packet expected
    TRUNK       = 7,    // switch → switch: what follows is for the replica, or the switch, that `sequence` names
    FENCE       = 8     // controller → switches → controller: all that went this way earlier is before this frame
}

// -- protocols ----------------------------------------------------------------------------------------

const bit<16> ETHERTYPE_IPV4 = 0x0800;
const bit<16> ETHERTYPE_ARP  = 0x0806;
const bit<16> ETHERTYPE_IPV6 = 0x86DD;
const bit<16> ETHERTYPE_TAG  = 0x88B5;    // IEEE's first EtherType for local experiments
const bit<16> ETHERTYPE_PUNT = 0x88B6;    // and the second: a packet-in or packet-out in an Ethernet frame

// Both ends of the punt port's wire. Nobody looks at them: there is nobody else on it.
const mac_addr_t MAC_PUNT_CONTROLLER = 0x02534D000001;
const mac_addr_t MAC_PUNT_SWITCH     = 0x02534D000002;

const bit<8> PROTOCOL_ICMP     = 1;
const bit<8> PROTOCOL_TCP      = 6;
const bit<8> PROTOCOL_UDP      = 17;
const bit<8> PROTOCOL_FRAGMENT = 44;      // IPv6 fragment header
const bit<8> PROTOCOL_ICMPV6   = 58;

const bit<4> IPV4_MIN_IHL = 5;            // words of an IPv4 header without options

const bit<16> ARP_HARDWARE_ETHERNET = 1;
const bit<8>  ARP_LENGTH_ETHERNET   = 6;
const bit<8>  ARP_LENGTH_IPV4       = 4;
const bit<16> ARP_REQUEST           = 1;
const bit<16> ARP_REPLY             = 2;

const bit<8> ICMP_ECHO_REPLY     = 0;
const bit<8> ICMP_ECHO_REQUEST   = 8;
const bit<8> ICMPV6_ECHO_REQUEST = 128;
const bit<8> ICMPV6_ECHO_REPLY   = 129;

// Neighbour discovery, RFC 4861. The five message types are consecutive.
const bit<8>      ND_FIRST_TYPE         = 133;    // router solicitation
const bit<8>      ND_SOLICITATION       = 135;
const bit<8>      ND_ADVERTISEMENT      = 136;
const bit<8>      ND_LAST_TYPE          = 137;    // redirect
const bit<8>      ND_HOP_LIMIT          = 255;    // proves that the sender is on the link: routers decrement it
const bit<16>     ND_BARE_LENGTH        = 24;     // ICMPv6 bytes of a solicitation without options
const bit<16>     ND_WITH_OPTION_LENGTH = 32;     // and of our advertisement, which has one
const bit<8>      ND_OPTION_TARGET_MAC  = 2;
const bit<32>     ND_ROUTER_SOLICITED_OVERRIDE = 0xE0000000;
const bit<32>     ND_ROUTER_OVERRIDE    = 0xA0000000;
const ipv6_addr_t IPV6_UNSPECIFIED      = 0;
const ipv6_addr_t IPV6_ALL_NODES        = 0xff020000000000000000000000000001;
const mac_addr_t  MAC_ALL_NODES         = 0x333300000001;

#endif
