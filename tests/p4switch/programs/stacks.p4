// Header stacks: a parser loop, lookahead, stack overflow, push, pop, an index known at run time.
#include "common.p4"

header label_t {
    bit<7> value;
    bit<1> last;
}

header command_t {
    bit<8> kind; // 1 push, 2 pop, 3 add to the element of number argument
    bit<8> argument;
}

struct headers {
    command_t command;
    label_t[4] labels;
    word_t seen;
}

struct metadata {
    bit<8> first;
}

parser MyParser(packet_in packet, out headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    state start {
        packet.extract(hdr.command);
        meta.first = packet.lookahead<bit<8>>();
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
    action push() {
        hdr.labels.push_front(1);
        hdr.labels[0].setValid();
        hdr.labels[0].value = hdr.command.argument[6:0];
        hdr.labels[0].last = 0;
    }
    action pop() {
        hdr.labels.pop_front(1);
    }
    action add_one() {
        hdr.labels[hdr.command.argument].value = hdr.labels[hdr.command.argument].value + 1;
    }
    apply {
        standard_metadata.egress_spec = 1;
        hdr.seen.setValid();
        hdr.seen.a = (bit<32>)meta.first;
        hdr.seen.b = 0;
        if (standard_metadata.parser_error == error.StackOutOfBounds) {
            hdr.seen.b = 1;
        } else if (standard_metadata.parser_error == error.PacketTooShort) {
            hdr.seen.b = 2;
        }
        if (hdr.command.kind == 1) {
            push();
        } else if (hdr.command.kind == 2) {
            pop();
        } else if (hdr.command.kind == 3) {
            add_one();
        }
    }
}

control MyDeparser(packet_out packet, in headers hdr) {
    apply {
        packet.emit(hdr.seen);
        packet.emit(hdr.command);
        packet.emit(hdr.labels);
    }
}

V1Switch(MyParser(), NoVerify<headers, metadata>(), MyIngress(), NoEgress<headers, metadata>(),
    NoUpdate<headers, metadata>(), MyDeparser()) main;
