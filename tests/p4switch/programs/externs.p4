// Externs: registers, counters, meters, random, every hash algorithm, log_msg, assert; and a parser value set.
#include "common.p4"

header command_t {
    bit<8> kind;
    bit<32> value;
    bit<64> result;
}

struct headers {
    command_t command;
    word_t special;
}

struct metadata {
    bit<2> colour;
}

parser MyParser(packet_in packet, out headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    value_set<bit<8>>(4) special_kinds;

    state start {
        packet.extract(hdr.command);
        transition select(hdr.command.kind) {
            special_kinds: special;
            default: accept;
        }
    }
    state special {
        packet.extract(hdr.special);
        transition accept;
    }
}

control MyIngress(inout headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    register<bit<32>, bit<32>>(4) totals;
    counter<bit<32>>(4, CounterType.packets_and_bytes) packets;
    meter<bit<32>>(4, MeterType.packets) limits;

    apply {
        bit<32> total = 0;
        bit<16> narrow = 0;
        bit<32> wide = 0;
        standard_metadata.egress_spec = 1;
        if (hdr.special.isValid()) {
            hdr.command.result = 0x5bec1a1;
        } else if (hdr.command.kind == 1) {
            totals.read(total, 1);
            total = total + hdr.command.value;
            totals.write(1, total);
            hdr.command.result = (bit<64>)total;
        } else if (hdr.command.kind == 2) {
            totals.read(total, hdr.command.value);
            hdr.command.result = (bit<64>)total;
        } else if (hdr.command.kind == 3) {
            packets.count(hdr.command.value);
        } else if (hdr.command.kind == 4) {
            limits.execute_meter(hdr.command.value, meta.colour);
            hdr.command.result = (bit<64>)meta.colour;
        } else if (hdr.command.kind == 5) {
            random(wide, 10, 20);
            hdr.command.result = (bit<64>)(bit<1>)(wide >= 10 && wide <= 20);
        } else if (hdr.command.kind == 6) {
            hash(narrow, HashAlgorithm.crc16, 16w0, { hdr.command.value }, 32w0x10000);
            hdr.command.result = (bit<64>)narrow;
        } else if (hdr.command.kind == 7) {
            hash(wide, HashAlgorithm.crc32, 32w0, { hdr.command.value }, 64w0x100000000);
            hdr.command.result = (bit<64>)wide;
        } else if (hdr.command.kind == 8) {
            hash(narrow, HashAlgorithm.csum16, 16w0, { hdr.command.value, hdr.command.kind }, 32w0x10000);
            hdr.command.result = (bit<64>)narrow;
        } else if (hdr.command.kind == 9) {
            hash(narrow, HashAlgorithm.xor16, 16w0, { hdr.command.value, hdr.command.kind }, 32w0x10000);
            hdr.command.result = (bit<64>)narrow;
        } else if (hdr.command.kind == 10) {
            hash(wide, HashAlgorithm.identity, 32w100, { hdr.command.value }, 64w1000);
            hdr.command.result = (bit<64>)wide;
        } else if (hdr.command.kind == 11) {
            hash(wide, HashAlgorithm.crc32_custom, 32w0, { hdr.command.value }, 64w0x100000000);
            hash(narrow, HashAlgorithm.crc16_custom, 16w0, { hdr.command.value }, 32w0x10000);
            hdr.command.result = wide ++ 16w0 ++ narrow;
        } else if (hdr.command.kind == 12) {
            log_msg("value {} of kind {}", { hdr.command.value, hdr.command.kind });
        } else if (hdr.command.kind == 13) {
            assert(hdr.command.value != 0);
            hdr.command.result = 1;
        }
    }
}

control MyDeparser(packet_out packet, in headers hdr) {
    apply {
        packet.emit(hdr);
    }
}

V1Switch(MyParser(), NoVerify<headers, metadata>(), MyIngress(), NoEgress<headers, metadata>(),
    NoUpdate<headers, metadata>(), MyDeparser()) main;
