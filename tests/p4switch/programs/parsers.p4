// Parsing: select on several keys with masks and ranges, advance, wide lookahead, a stack of unions, a varbit in a stack.
#include "common.p4"

header start_t {
    bit<4> kind;
    bit<12> selector;
    bit<8> skip; // bytes
}

header byte_t {
    bit<8> value;
}

header short_t {
    bit<16> value;
}

header_union item_t {
    byte_t byte;
    short_t short;
}

header option_t {
    bit<8> length; // bytes
    varbit<64> data;
}

header report_t {
    bit<8> way;
    bit<8> error_;
    bit<40> ahead;
}

struct headers {
    start_t start;
    item_t[3] items;
    option_t[2] options;
    report_t report;
}

struct metadata {
    bit<8> way;
    bit<40> ahead;
}

parser MyParser(packet_in packet, out headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    state start {
        packet.extract(hdr.start);
        packet.advance((bit<32>)hdr.start.skip << 3);
        transition select(hdr.start.kind, hdr.start.selector) {
            (1, 0x100 &&& 0xf00): masked;
            (1, 0x010 .. 0x013): ranged;
            (2, _): items;
            (3, _): options;
            (4, _): look;
            (5, 5): nothing;
        }
    }
    state masked {
        meta.way = 1;
        transition accept;
    }
    state ranged {
        meta.way = 2;
        transition accept;
    }
    state items {
        meta.way = meta.way + 16;
        transition select(packet.lookahead<bit<8>>()) {
            0x01: byte;
            0x02: short;
            default: accept;
        }
    }
    state byte {
        packet.extract(hdr.items.next.byte);
        transition items;
    }
    state short {
        packet.extract(hdr.items.next.short);
        transition items;
    }
    state options {
        meta.way = meta.way + 1;
        packet.extract(hdr.options.next, (bit<32>)packet.lookahead<bit<8>>() << 3);
        transition select(hdr.options.last.length) {
            0: accept;
            default: options;
        }
    }
    state look {
        meta.ahead = packet.lookahead<bit<40>>();
        transition nothing;
    }
    state nothing {
        meta.way = 5;
        transition accept;
    }
}

control MyIngress(inout headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    apply {
        standard_metadata.egress_spec = 1;
        hdr.report.setValid();
        hdr.report.way = meta.way;
        hdr.report.ahead = meta.ahead;
        if (standard_metadata.parser_error == error.PacketTooShort) {
            hdr.report.error_ = 1;
        } else if (standard_metadata.parser_error == error.StackOutOfBounds) {
            hdr.report.error_ = 2;
        } else if (standard_metadata.parser_error == error.HeaderTooShort) {
            hdr.report.error_ = 3;
        } else if (standard_metadata.parser_error == error.NoMatch) {
            hdr.report.error_ = 4;
        } else if (standard_metadata.parser_error != error.NoError) {
            hdr.report.error_ = 5;
        }
        if ((hdr.items[0].byte.isValid() || hdr.items[0].short.isValid()) && hdr.items[1].short.isValid()) {
            hdr.items[1].short.value = 0xabcd;
        }
        if (hdr.options[1].isValid()) {
            hdr.options[0] = hdr.options[1];
        }
    }
}

control MyDeparser(packet_out packet, in headers hdr) {
    apply {
        packet.emit(hdr.report);
        packet.emit(hdr.start);
        packet.emit(hdr.items);
        packet.emit(hdr.options);
    }
}

V1Switch(MyParser(), NoVerify<headers, metadata>(), MyIngress(), NoEgress<headers, metadata>(),
    NoUpdate<headers, metadata>(), MyDeparser()) main;
