// Arithmetic: wrapping, saturating, signed, wide, shifts by data, slices, casts, and comparisons.
#include "common.p4"

header input_t {
    bit<8> x;
    bit<8> y;
    int<8> s;
    int<8> t;
    bit<128> wide;
}

header output_t {
    bit<8> sum;
    bit<8> difference;
    bit<8> product;
    bit<8> saturated_sum;
    bit<8> saturated_difference;
    int<8> signed_sum;
    int<8> signed_saturated_sum;
    int<8> signed_saturated_difference;
    bit<8> shifted_left;
    bit<8> shifted_right;
    int<8> signed_shifted_right;
    bit<8> comparisons;
    bit<16> widened;
    bit<16> sign_extended;
    bit<128> wide_sum;
    bit<128> wide_sliced;
}

struct headers {
    input_t in_;
    output_t out_;
}

struct metadata { }

parser MyParser(packet_in packet, out headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    state start {
        packet.extract(hdr.in_);
        transition accept;
    }
}

control MyIngress(inout headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    apply {
        bit<8> x = hdr.in_.x;
        bit<8> y = hdr.in_.y;
        int<8> s = hdr.in_.s;
        int<8> t = hdr.in_.t;
        hdr.out_.setValid();
        hdr.out_.sum = x + y;
        hdr.out_.difference = x - y;
        hdr.out_.product = x * y;
        hdr.out_.saturated_sum = x |+| y;
        hdr.out_.saturated_difference = x |-| y;
        hdr.out_.signed_sum = s + t;
        hdr.out_.signed_saturated_sum = s |+| t;
        hdr.out_.signed_saturated_difference = s |-| t;
        hdr.out_.shifted_left = x << y;
        hdr.out_.shifted_right = x >> y;
        hdr.out_.signed_shifted_right = s >> 2;
        hdr.out_.comparisons = (bit<1>)(x < y) ++ (bit<1>)(x <= y) ++ (bit<1>)(s < t) ++ (bit<1>)(s <= t)
            ++ (bit<1>)(x == y) ++ (bit<1>)(s == t) ++ (bit<1>)(x != y && !(s > t)) ++ (bit<1>)(x > y || s >= t);
        hdr.out_.widened = (bit<16>)x;
        hdr.out_.sign_extended = (bit<16>)(int<16>)s;
        hdr.out_.wide_sum = hdr.in_.wide + 1;
        hdr.out_.wide_sliced = hdr.in_.wide;
        hdr.out_.wide_sliced[71:64] = ~x;
        hdr.in_.setInvalid();
        standard_metadata.egress_spec = 1;
    }
}

control MyDeparser(packet_out packet, in headers hdr) {
    apply {
        packet.emit(hdr);
    }
}

V1Switch(MyParser(), NoVerify<headers, metadata>(), MyIngress(), NoEgress<headers, metadata>(),
    NoUpdate<headers, metadata>(), MyDeparser()) main;
