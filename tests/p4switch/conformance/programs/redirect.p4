/* What may become of a packet, chosen by table entries: unicast, multicast, clones, resubmit, recirculate, exit,
   truncate; parser errors; metadata of the queue. The trailer written in egress tells where the packet has been. */
#include <core.p4>
#define V1MODEL_VERSION 20200408
#include <v1model.p4>

const bit<8> KEEP = 1;
error { Forbidden }

header order_t {
    bit<8> kind;
    bit<8> step; // raised in ingress, so that an I2E clone, which shows the packet as received, has the old one
}

header trail_t {
    bit<8>  instance;
    bit<8>  kept;
    bit<16> rid;
    bit<16> length;
    bit<8>  fault; // 0 none, 1 too short, 2 forbidden
    bit<8>  queue; // 1 if the times of the queue are plausible
}

struct headers_t {
    order_t order;
    trail_t trail;
}

struct metadata_t {
    @field_list(KEEP)
    bit<8> kept;
}

parser RedirectParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.order);
        verify(hdr.order.kind != 0xee, error.Forbidden);
        transition accept;
    }
}

control NoVerify(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control RedirectIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    action forward(bit<9> port) {
        std.egress_spec = port;
    }
    action replicate(bit<16> group) {
        std.mcast_grp = group;
    }
    action drop() {
        mark_to_drop(std);
    }
    action leave() {
        exit;
    }
    action keep_going() { }
    action clone_in(bit<32> session, bit<8> kept) {
        meta.kept = kept;
        clone_preserving_field_list(CloneType.I2E, session, KEEP);
    }
    action again(bit<8> kept) {
        meta.kept = kept;
        resubmit_preserving_field_list(KEEP);
    }
    action cut(bit<32> length) {
        truncate(length);
    }

    table first {
        key = { hdr.order.kind: exact @name("kind"); meta.kept: exact @name("kept"); }
        actions = { forward; replicate; drop; leave; }
        default_action = drop();
    }
    table second {
        key = { hdr.order.kind: exact @name("kind"); std.instance_type: ternary @name("instance"); }
        actions = { clone_in; again; cut; keep_going; }
        default_action = keep_going();
    }

    apply {
        if (std.parser_error != error.NoError) {
            std.egress_spec = std.ingress_port;
        } else {
            hdr.order.step = hdr.order.step + 1;
            first.apply();
            second.apply();
        }
    }
}

control RedirectEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    action keep_going() { }
    action clone_out(bit<32> session, bit<8> kept) {
        meta.kept = kept;
        clone_preserving_field_list(CloneType.E2E, session, KEEP);
    }
    action around(bit<8> kept) {
        meta.kept = kept;
        recirculate_preserving_field_list(KEEP);
    }
    table last {
        key = { hdr.order.kind: exact @name("kind"); std.instance_type: ternary @name("instance"); }
        actions = { clone_out; around; keep_going; }
        default_action = keep_going();
    }
    apply {
        last.apply();
        hdr.trail.setValid();
        hdr.trail.instance = (bit<8>)std.instance_type;
        hdr.trail.kept = meta.kept;
        hdr.trail.rid = std.egress_rid;
        hdr.trail.length = (bit<16>)std.packet_length;
        hdr.trail.fault = 0;
        if (std.parser_error == error.PacketTooShort) {
            hdr.trail.fault = 1;
        }
        if (std.parser_error == error.Forbidden) {
            hdr.trail.fault = 2;
        }
        hdr.trail.queue = 0;
        if (std.enq_timestamp > 0 && (bit<48>)std.enq_timestamp <= std.egress_global_timestamp
            && std.ingress_global_timestamp <= (bit<48>)std.enq_timestamp) {
            hdr.trail.queue = 1;
        }
    }
}

control NoCompute(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control RedirectDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.trail);
        packet.emit(hdr.order);
    }
}

V1Switch(RedirectParser(), NoVerify(), RedirectIngress(), RedirectEgress(), NoCompute(), RedirectDeparser()) main;
