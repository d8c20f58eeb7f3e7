/* Every kind of entity that P4Runtime knows, for the tests of the server. Not a useful program. */
#include <core.p4>
#define V1MODEL_VERSION 20200408
#include <v1model.p4>

@controller_header("packet_in")
header packet_in_t {
    bit<9> ingress_port;
    bit<7> _pad;
}

@controller_header("packet_out")
header packet_out_t {
    bit<9> egress_port;
    bit<7> _pad;
}

header ethernet_t {
    bit<48> dst;
    bit<48> src;
    bit<16> ether_type;
}

header body_t {
    bit<8>  kind;
    bit<8>  value;
    bit<16> word;
    bit<32> address;
}

struct headers_t {
    packet_in_t  packet_in;
    packet_out_t packet_out;
    ethernet_t   ethernet;
    body_t       body;
}

struct metadata_t {
    bit<2> colour;
}

struct seen_t {
    bit<48> src;
    bit<9>  port;
}

parser EntitiesParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    @id(1) value_set<bit<16>>(4) known;

    state start {
        transition select(std.ingress_port) {
            510: parse_packet_out;
            default: parse_ethernet;
        }
    }
    state parse_packet_out {
        packet.extract(hdr.packet_out);
        transition parse_ethernet;
    }
    state parse_ethernet {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ether_type) {
            known: parse_body;
            0x1234: parse_body;
            default: accept;
        }
    }
    state parse_body {
        packet.extract(hdr.body);
        transition accept;
    }
}

control NoVerify(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control EntitiesIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    action_profile(16) profile;
    action_selector(HashAlgorithm.crc16, 32w16, 32w14) spreader;
    counter<bit<32>>(8, CounterType.packets) packets_only;
    counter<bit<32>>(8, CounterType.bytes) bytes_only;
    counter<bit<32>>(8, CounterType.packets_and_bytes) both;
    direct_counter(CounterType.packets_and_bytes) exact_counter;
    meter<bit<32>>(4, MeterType.packets) limiter;
    direct_meter<bit<2>>(MeterType.bytes) exact_meter;
    register<bit<48>, bit<32>>(4) last_source;
    register<int<16>, bit<32>>(4) balance;

    action drop() {
        mark_to_drop(std);
    }
    action forward(bit<9> port) {
        std.egress_spec = port;
    }
    action measured(bit<9> port) {
        exact_meter.read(meta.colour);
        std.egress_spec = port;
    }
    action spread(bit<16> group) {
        std.mcast_grp = group;
    }
    action learn() {
        digest<seen_t>(1, { hdr.ethernet.src, std.ingress_port });
        last_source.write(0, hdr.ethernet.src);
        balance.write(1, -5);
        both.count(1);
        packets_only.count(1);
        bytes_only.count(1);
        limiter.execute_meter(0, meta.colour);
    }
    action only_table(bit<9> port) {
        std.egress_spec = port;
    }
    action only_default() {
        mark_to_drop(std);
    }

    table exact_table {
        key = { hdr.ethernet.dst: exact @name("dst"); }
        actions = { measured; spread; drop; @tableonly only_table; @defaultonly only_default; }
        counters = exact_counter;
        meters = exact_meter;
        size = 8;
        support_timeout = true;
        default_action = drop();
    }
    table lpm_table {
        key = { hdr.body.address: lpm @name("address"); hdr.body.kind: exact @name("kind"); }
        actions = { forward; drop; }
        size = 64;
        const default_action = drop();
    }
    table ternary_table {
        key = {
            hdr.body.word: ternary @name("word");
            hdr.body.value: range @name("value");
            hdr.body.kind: optional @name("kind");
        }
        actions = { forward; drop; NoAction; }
        size = 64;
    }
    table fixed_table {
        key = { hdr.body.kind: exact @name("kind"); }
        actions = { forward; drop; NoAction; }
        const entries = {
            1: forward(1);
            2: drop();
        }
    }
    table profile_table {
        key = { hdr.body.kind: exact @name("kind"); }
        actions = { forward; drop; NoAction; }
        implementation = profile;
        size = 16;
    }
    table selector_table {
        key = { hdr.body.kind: exact @name("kind"); hdr.body.word: selector; }
        actions = { forward; drop; NoAction; }
        implementation = spreader;
        size = 16;
    }
    table keyless {
        actions = { learn; NoAction; }
    }

    apply {
        if (hdr.packet_out.isValid()) {
            std.egress_spec = hdr.packet_out.egress_port;
            hdr.packet_out.setInvalid();
        } else {
            keyless.apply();
            exact_table.apply();
            if (hdr.body.isValid()) {
                lpm_table.apply();
                ternary_table.apply();
                fixed_table.apply();
                profile_table.apply();
                selector_table.apply();
            }
        }
    }
}

control EntitiesEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        if (std.egress_port == 510) {
            hdr.packet_in.setValid();
            hdr.packet_in.ingress_port = std.ingress_port;
        }
    }
}

control NoCompute(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control EntitiesDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.packet_in);
        packet.emit(hdr.ethernet);
        packet.emit(hdr.body);
    }
}

V1Switch(EntitiesParser(), NoVerify(), EntitiesIngress(), EntitiesEgress(), NoCompute(), EntitiesDeparser()) main;
