// What becomes of a packet: clone, resubmit, recirculate, multicast, truncate, drop, digest; metadata kept on the way.
#include "common.p4"

const bit<8> KEEP = 1;

header command_t {
    bit<8> kind; // 1 I2E clone, 2 E2E clone, 3 resubmit, 4 recirculate, 5 multicast, 6 truncate, 7 drop and I2E clone, 8 digest
    bit<8> note; // changed in ingress: I2E clones must not show it
    bit<8> instance; // instance_type, written in egress
    bit<8> kept; // metadata from before, written in egress
    bit<16> rid;
    bit<16> length; // packet_length, written in egress
}

struct headers {
    command_t command;
}

struct metadata {
    @field_list(KEEP)
    bit<8> kept;
    bit<8> lost;
}

struct digest_t {
    bit<8> kind;
    bit<9> port;
}

parser MyParser(packet_in packet, out headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    state start {
        packet.extract(hdr.command);
        transition accept;
    }
}

control MyIngress(inout headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    apply {
        standard_metadata.egress_spec = 1;
        if (standard_metadata.instance_type == 6 || standard_metadata.instance_type == 4) {
            hdr.command.note = meta.kept + meta.lost;
            hdr.command.kept = (bit<8>)standard_metadata.instance_type;
            exit;
        }
        meta.kept = 0x5a;
        meta.lost = 0x11;
        hdr.command.note = 0xee;
        if (hdr.command.kind == 1) {
            clone_preserving_field_list(CloneType.I2E, 7, KEEP);
        } else if (hdr.command.kind == 3) {
            resubmit_preserving_field_list(KEEP);
        } else if (hdr.command.kind == 5) {
            standard_metadata.mcast_grp = 9;
        } else if (hdr.command.kind == 6) {
            truncate(10);
        } else if (hdr.command.kind == 7) {
            mark_to_drop(standard_metadata);
            clone_preserving_field_list(CloneType.I2E, 7, KEEP);
        } else if (hdr.command.kind == 8) {
            digest<digest_t>(1, { hdr.command.kind, standard_metadata.ingress_port });
        }
    }
}

control MyEgress(inout headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    apply {
        hdr.command.instance = (bit<8>)standard_metadata.instance_type;
        if (hdr.command.kind != 3 && hdr.command.kind != 4) {
            hdr.command.kept = meta.kept + meta.lost;
        }
        hdr.command.rid = standard_metadata.egress_rid;
        hdr.command.length = (bit<16>)standard_metadata.packet_length;
        if (hdr.command.kind == 2 && standard_metadata.instance_type == 0) {
            clone_preserving_field_list(CloneType.E2E, 7, KEEP);
        }
        if (hdr.command.kind == 4 && hdr.command.kept == 0) {
            recirculate_preserving_field_list(KEEP);
        }
    }
}

control MyDeparser(packet_out packet, in headers hdr) {
    apply {
        packet.emit(hdr);
    }
}

V1Switch(MyParser(), NoVerify<headers, metadata>(), MyIngress(), MyEgress(), NoUpdate<headers, metadata>(),
    MyDeparser()) main;
