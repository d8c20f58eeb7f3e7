// Fields of variable length, verify, checksums verified and updated with conditions and payload.
#include "common.p4"

error {
    BadLength
}

header fixed_t {
    bit<4> version;
    bit<4> words; // of four bytes, of options
    bit<8> flags; // 1: copy the options; 2: remove them
    bit<16> checksum; // over this header and the options
    bit<16> payload_checksum; // over the payload
}

header options_t {
    varbit<96> data;
}

struct headers {
    fixed_t fixed;
    options_t options;
    options_t copy;
    word_t errors;
}

struct metadata { }

parser MyParser(packet_in packet, out headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    state start {
        packet.extract(hdr.fixed);
        verify(hdr.fixed.version == 7, error.BadLength);
        transition select(hdr.fixed.words) {
            0: accept;
            default: options;
        }
    }
    state options {
        packet.extract(hdr.options, (bit<32>)hdr.fixed.words << 5);
        transition accept;
    }
}

control MyVerify(inout headers hdr, inout metadata meta) {
    apply {
        verify_checksum(hdr.options.isValid(),
            { hdr.fixed.version, hdr.fixed.words, hdr.fixed.flags, hdr.options.data },
            hdr.fixed.checksum, HashAlgorithm.csum16);
        verify_checksum(!hdr.options.isValid(), { hdr.fixed.version, hdr.fixed.words, hdr.fixed.flags },
            hdr.fixed.checksum, HashAlgorithm.csum16);
    }
}

control MyIngress(inout headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    apply {
        standard_metadata.egress_spec = 1;
        hdr.errors.setValid();
        hdr.errors.a = (bit<32>)standard_metadata.checksum_error;
        hdr.errors.b = 0;
        if (standard_metadata.parser_error == error.BadLength) {
            hdr.errors.b = 1;
        } else if (standard_metadata.parser_error == error.HeaderTooShort) {
            hdr.errors.b = 2;
        } else if (standard_metadata.parser_error == error.PacketTooShort) {
            hdr.errors.b = 3;
        }
        if (hdr.fixed.flags == 1) {
            hdr.copy = hdr.options;
        } else if (hdr.fixed.flags == 2) {
            hdr.options.setInvalid();
            hdr.fixed.words = 0;
        }
    }
}

control MyUpdate(inout headers hdr, inout metadata meta) {
    apply {
        update_checksum(hdr.options.isValid(),
            { hdr.fixed.version, hdr.fixed.words, hdr.fixed.flags, hdr.options.data },
            hdr.fixed.checksum, HashAlgorithm.csum16);
        update_checksum(!hdr.options.isValid(), { hdr.fixed.version, hdr.fixed.words, hdr.fixed.flags },
            hdr.fixed.checksum, HashAlgorithm.csum16);
        update_checksum_with_payload(true, { 8w0, hdr.fixed.flags }, hdr.fixed.payload_checksum,
            HashAlgorithm.csum16);
    }
}

control MyDeparser(packet_out packet, in headers hdr) {
    apply {
        packet.emit(hdr.errors);
        packet.emit(hdr.fixed);
        packet.emit(hdr.options);
        packet.emit(hdr.copy);
    }
}

V1Switch(MyParser(), MyVerify(), MyIngress(), NoEgress<headers, metadata>(), MyUpdate(), MyDeparser()) main;
