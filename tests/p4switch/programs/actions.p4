// Bodies of actions: conditions, early return and exit, headers compared and copied, stacks copied, writes by index.
#include "common.p4"

header op_t {
    bit<8> kind;
    bit<8> x;
    bit<8> y;
    int<16> s;
    int<16> t;
    bit<64> result;
}

header pair_t {
    bit<8> one;
    bit<8> two;
}

struct headers {
    op_t op;
    pair_t[3] left;
    pair_t[3] right;
}

struct metadata {
    bit<8> note;
    bit<1> flag;
}

parser MyParser(packet_in packet, out headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    state start {
        packet.extract(hdr.op);
        packet.extract(hdr.left[0]);
        packet.extract(hdr.left[1]);
        packet.extract(hdr.right[0]);
        transition accept;
    }
}

control MyIngress(inout headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    action branches(bit<8> base) {
        if (hdr.op.x < hdr.op.y) {
            hdr.op.result = (bit<64>)(base + 1);
            if (hdr.op.x == 0) {
                hdr.op.result = hdr.op.result + 10;
                return;
            }
        } else if (hdr.op.x == hdr.op.y) {
            hdr.op.result = (bit<64>)(base + 2);
        } else {
            hdr.op.result = (bit<64>)(base + 3);
            if (hdr.op.x == 255) {
                exit;
            }
        }
        meta.note = 1;
    }
    action signed_arithmetic() {
        int<16> product = hdr.op.s * hdr.op.t;
        int<32> wide = (int<32>)hdr.op.s * (int<32>)hdr.op.t;
        hdr.op.result = (bit<16>)product ++ (bit<32>)wide ++ (bit<16>)(-hdr.op.s);
    }
    action compare_headers() {
        meta.flag = (bit<1>)(hdr.left[0] == hdr.right[0] && hdr.left[2] == hdr.right[2]);
        hdr.op.result = (bit<64>)meta.flag + (hdr.left[1] != hdr.right[1] ? 64w2 : 64w0);
    }
    action copy_stack() {
        hdr.right = hdr.left;
        hdr.left[0].setInvalid();
    }
    action write_by_index() {
        hdr.left[hdr.op.x & 1].two = hdr.op.y;
        hdr.op.result = (bit<64>)hdr.left[hdr.op.y & 1].one;
    }
    action slices() {
        hdr.op.result[15:8] = hdr.op.x;
        hdr.op.result[63:60] = hdr.op.y[7:4];
        hdr.op.result[3:0] = hdr.op.x[3:0] & ~hdr.op.y[3:0] | (hdr.op.x[7:4] ^ hdr.op.y[3:0]);
    }
    action shifts() {
        hdr.op.result = (hdr.op.result << hdr.op.x) | (64w1 >> hdr.op.y);
        hdr.op.s = hdr.op.s >> hdr.op.y;
    }
    table do_branches {
        key = { }
        actions = { branches; }
        default_action = branches(100);
    }
    apply {
        standard_metadata.egress_spec = 1;
        if (hdr.op.kind == 1) {
            do_branches.apply();
            hdr.op.kind = hdr.op.kind + 0x10 + meta.note;
        } else if (hdr.op.kind == 2) {
            signed_arithmetic();
        } else if (hdr.op.kind == 3) {
            compare_headers();
        } else if (hdr.op.kind == 4) {
            copy_stack();
        } else if (hdr.op.kind == 5) {
            write_by_index();
        } else if (hdr.op.kind == 6) {
            slices();
        } else if (hdr.op.kind == 7) {
            shifts();
        }
    }
}

control MyDeparser(packet_out packet, in headers hdr) {
    apply {
        packet.emit(hdr.op);
        packet.emit(hdr.left);
        packet.emit(hdr.right);
    }
}

V1Switch(MyParser(), NoVerify<headers, metadata>(), MyIngress(), NoEgress<headers, metadata>(),
    NoUpdate<headers, metadata>(), MyDeparser()) main;
