// A loop in an action over the valid elements of a stack (BMv2 itself refuses p4c's JSON for this).
#include "common.p4"

header label_t {
    bit<7> value;
    bit<1> last;
}

header command_t {
    bit<8> total; // of the labels' values
    bit<8> limit; // labels after this many do not count
}

struct headers {
    command_t command;
    label_t[4] labels;
}

struct metadata { }

parser MyParser(packet_in packet, out headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    state start {
        packet.extract(hdr.command);
        transition labels;
    }
    state labels {
        packet.extract(hdr.labels.next);
        transition select(hdr.labels.last.last) {
            1: accept;
            default: labels;
        }
    }
}

control MyIngress(inout headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    action sum() {
        bit<8> total = 0;
        for (bit<8> i = 0; i < 4; i = i + 1) {
            if (i == hdr.command.limit) {
                break;
            }
            if (hdr.labels[i].isValid()) {
                total = total + (bit<8>)hdr.labels[i].value;
            }
        }
        hdr.command.total = total;
    }
    apply {
        standard_metadata.egress_spec = 1;
        sum();
    }
}

control MyDeparser(packet_out packet, in headers hdr) {
    apply {
        packet.emit(hdr.command);
        packet.emit(hdr.labels);
    }
}

V1Switch(MyParser(), NoVerify<headers, metadata>(), MyIngress(), NoEgress<headers, metadata>(),
    NoUpdate<headers, metadata>(), MyDeparser()) main;
