// Header unions: one in the parser, setting another member valid, assignment, and a stack of unions.
#include "common.p4"

header kind_t {
    bit<8> kind;
    bit<8> change; // 1: byte becomes valid; 2: the other union becomes a copy
}

header byte_t {
    bit<8> value;
}

header short_t {
    bit<16> value;
}

header_union number_t {
    byte_t byte;
    short_t short;
}

struct headers {
    kind_t kind;
    number_t one;
    number_t other;
}

struct metadata { }

parser MyParser(packet_in packet, out headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    state start {
        packet.extract(hdr.kind);
        transition select(hdr.kind.kind) {
            1: byte;
            2: short;
            default: accept;
        }
    }
    state byte {
        packet.extract(hdr.one.byte);
        transition accept;
    }
    state short {
        packet.extract(hdr.one.short);
        transition accept;
    }
}

control MyIngress(inout headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    apply {
        standard_metadata.egress_spec = 1;
        if (hdr.kind.change == 1) {
            hdr.one.byte.setValid();
            hdr.one.byte.value = 0x77;
        } else if (hdr.kind.change == 2) {
            hdr.other = hdr.one;
        }
        if (hdr.one.isValid()) {
            hdr.kind.kind = hdr.kind.kind | 0x80;
        }
    }
}

control MyDeparser(packet_out packet, in headers hdr) {
    apply {
        packet.emit(hdr.kind);
        packet.emit(hdr.one);
        packet.emit(hdr.other);
    }
}

V1Switch(MyParser(), NoVerify<headers, metadata>(), MyIngress(), NoEgress<headers, metadata>(),
    NoUpdate<headers, metadata>(), MyDeparser()) main;
