/* Ways to match and to choose: ternary, range, optional, prefixes, entries made at load time, odd and wide fields,
   action profiles with and without selector, meters, digests. */
#include <core.p4>
#define V1MODEL_VERSION 20200408
#include <v1model.p4>

header query_t {
    bit<1>   flag;
    bit<7>   small;
    bit<8>   kind;
    bit<16>  word;
    bit<256> wide;
}

header answer_t {
    bit<8>   by;
    bit<8>   colour;
    bit<16>  note;
}

struct headers_t {
    answer_t     answer;
    query_t      query;
}

struct metadata_t {
    bit<2> colour;
}

struct seen_t {
    bit<8>  kind;
    bit<16> word;
}

parser ChoicesParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.query);
        transition accept;
    }
}

control NoVerify(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control ChoicesIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    action_selector(HashAlgorithm.crc16, 32w8, 32w16) spreader;
    action_profile(4) shared;
    direct_meter<bit<2>>(MeterType.packets) pace;
    meter<bit<8>>(256, MeterType.bytes) budget;

    action drop() {
        mark_to_drop(std);
    }
    action say(bit<16> note) {
        hdr.answer.note = note;
    }
    action send(bit<9> port) {
        std.egress_spec = port;
    }
    action paced(bit<16> note) {
        hdr.answer.note = note;
        pace.read(meta.colour);
    }
    action learn() {
        digest<seen_t>(1, { hdr.query.kind, hdr.query.word });
    }

    table by_ternary {
        key = { hdr.query.word: ternary @name("word"); hdr.query.small: ternary @name("small"); }
        actions = { say; }
        size = 16;
    }
    table by_optional {
        key = { hdr.query.word: optional @name("word"); hdr.query.flag: optional @name("flag"); }
        actions = { say; }
        size = 16;
    }
    table by_range {
        key = { hdr.query.word: range @name("word"); }
        actions = { say; }
        const entries = {
            0 .. 9: say(1);
            5 .. 20: say(2);
            0x100 .. 0x1ff: say(3);
        }
    }
    table by_width {
        key = {
            hdr.query.flag: exact @name("flag");
            hdr.query.small: exact @name("small");
            hdr.query.wide: lpm @name("wide");
        }
        actions = { say; }
        size = 16;
    }
    table by_profile {
        key = { hdr.query.word: exact @name("word"); }
        actions = { say; NoAction; }
        implementation = shared;
        size = 16;
    }
    table by_selector {
        key = { hdr.query.kind: exact @name("kind"); hdr.query.word: selector; }
        actions = { send; NoAction; }
        implementation = spreader;
        size = 16;
    }
    table by_pace {
        key = { hdr.query.word: exact @name("word"); }
        actions = { paced; NoAction; }
        meters = pace;
        size = 16;
    }
    table initial {
        key = { hdr.query.word: exact @name("word"); }
        actions = { say; NoAction; }
        size = 16;
        entries = {
            const 1: say(0x11);
            2: say(0x22);
        }
    }
    table learner {
        key = { hdr.query.kind: exact @name("kind"); }
        actions = { learn; NoAction; }
        size = 16;
    }

    apply {
        bit<8> budget_colour = 0;
        std.egress_spec = std.ingress_port;
        hdr.answer.setValid();
        hdr.answer.by = hdr.query.kind;
        hdr.answer.note = 0;
        if (hdr.query.kind == 1) {
            by_ternary.apply();
        } else if (hdr.query.kind == 2) {
            by_optional.apply();
        } else if (hdr.query.kind == 3) {
            by_range.apply();
        } else if (hdr.query.kind == 4) {
            by_width.apply();
        } else if (hdr.query.kind == 5) {
            by_profile.apply();
        } else if (hdr.query.kind == 6) {
            by_selector.apply();
        } else if (hdr.query.kind == 7) {
            by_pace.apply();
        } else if (hdr.query.kind == 8) {
            budget.execute_meter((bit<8>)hdr.query.word, budget_colour);
            meta.colour = (bit<2>)budget_colour;
        } else if (hdr.query.kind == 9) {
            initial.apply();
        }
        learner.apply();
        hdr.answer.colour = (bit<8>)meta.colour;
    }
}

control NoEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply { }
}

control NoCompute(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control ChoicesDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.answer);
        packet.emit(hdr.query);
    }
}

V1Switch(ChoicesParser(), NoVerify(), ChoicesIngress(), NoEgress(), NoCompute(), ChoicesDeparser()) main;
