/* A router in small: longest prefix, next hop, TTL, checksums; what it does not know goes to the controller. */
#include <core.p4>
#define V1MODEL_VERSION 20200408
#include <v1model.p4>

typedef bit<9> port_t;
const port_t CPU = 510;

@controller_header("packet_in")
header packet_in_t {
    bit<9> ingress_port;
    bit<7> reason;
}

@controller_header("packet_out")
header packet_out_t {
    bit<9> egress_port;
    bit<7> _pad;
}

header ethernet_t {
    bit<48> dst;
    bit<48> src;
    bit<16> ether_type;
}

header ipv4_t {
    bit<4>  version;
    bit<4>  ihl;
    bit<8>  tos;
    bit<16> length;
    bit<16> id;
    bit<16> fragment;
    bit<8>  ttl;
    bit<8>  protocol;
    bit<16> checksum;
    bit<32> src;
    bit<32> dst;
}

struct headers_t {
    packet_in_t  to_cpu;
    packet_out_t from_cpu;
    ethernet_t   ethernet;
    ipv4_t       ipv4;
}

struct metadata_t {
    bit<32> hop;
}

parser RouterParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        transition select(std.ingress_port) {
            CPU: from_cpu;
            default: ethernet;
        }
    }
    state from_cpu {
        packet.extract(hdr.from_cpu);
        transition accept;
    }
    state ethernet {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ether_type) {
            0x0800: ipv4;
            default: accept;
        }
    }
    state ipv4 {
        packet.extract(hdr.ipv4);
        transition accept;
    }
}

control RouterVerify(inout headers_t hdr, inout metadata_t meta) {
    apply {
        verify_checksum(hdr.ipv4.isValid(),
            { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.tos, hdr.ipv4.length, hdr.ipv4.id, hdr.ipv4.fragment,
              hdr.ipv4.ttl, hdr.ipv4.protocol, hdr.ipv4.src, hdr.ipv4.dst },
            hdr.ipv4.checksum, HashAlgorithm.csum16);
    }
}

control RouterIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    direct_counter(CounterType.packets_and_bytes) routed;
    counter<bit<32>>(4, CounterType.packets) refused;

    action drop() {
        mark_to_drop(std);
    }
    action punt(bit<7> reason) {
        std.egress_spec = CPU;
        hdr.to_cpu.setValid();
        hdr.to_cpu.ingress_port = std.ingress_port;
        hdr.to_cpu.reason = reason;
    }
    action via(bit<32> hop, port_t port) {
        meta.hop = hop == 0 ? hdr.ipv4.dst : hop;
        std.egress_spec = port;
    }
    action rewrite(bit<48> dst) {
        hdr.ethernet.dst = dst;
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
    }

    table route {
        key = { hdr.ipv4.dst: lpm @name("dst"); }
        actions = { via; punt; drop; }
        default_action = punt(1);
        counters = routed;
        size = 1024;
    }
    table neighbour {
        key = { meta.hop: exact @name("hop"); }
        actions = { rewrite; punt; drop; }
        const default_action = punt(2);
        support_timeout = true;
        size = 16;
    }

    apply {
        if (hdr.from_cpu.isValid()) {
            std.egress_spec = hdr.from_cpu.egress_port;
            hdr.from_cpu.setInvalid();
        } else if (!hdr.ipv4.isValid()) {
            punt(3);
        } else if (std.checksum_error == 1) {
            refused.count(32w0);
            drop();
        } else if (hdr.ipv4.ttl < 2) {
            refused.count(32w1);
            drop();
        } else {
            switch (route.apply().action_run) {
                via: { neighbour.apply(); }
                default: { }
            }
        }
    }
}

control RouterEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    action source(bit<48> src) {
        hdr.ethernet.src = src;
    }
    table own_address {
        key = { std.egress_port: exact @name("port"); }
        actions = { source; NoAction; }
        default_action = NoAction();
    }
    apply {
        if (hdr.ipv4.isValid()) {
            own_address.apply();
        }
    }
}

control RouterCompute(inout headers_t hdr, inout metadata_t meta) {
    apply {
        update_checksum(hdr.ipv4.isValid(),
            { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.tos, hdr.ipv4.length, hdr.ipv4.id, hdr.ipv4.fragment,
              hdr.ipv4.ttl, hdr.ipv4.protocol, hdr.ipv4.src, hdr.ipv4.dst },
            hdr.ipv4.checksum, HashAlgorithm.csum16);
    }
}

control RouterDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.to_cpu);
        packet.emit(hdr.ethernet);
        packet.emit(hdr.ipv4);
    }
}

V1Switch(RouterParser(), RouterVerify(), RouterIngress(), RouterEgress(), RouterCompute(), RouterDeparser()) main;
