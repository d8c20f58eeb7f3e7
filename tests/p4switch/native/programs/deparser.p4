// A deparser that does more than emit.
#include <core.p4>
#include <v1model.p4>

header probe_t {
    bit<8>  a;
    bit<8>  b;
    bit<16> c;
}

struct headers_t {
    probe_t probe;
}

struct metadata_t {}

parser DeparserParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.probe);
        transition accept;
    }
}

control NoVerify(inout headers_t hdr, inout metadata_t meta) { apply {} }

control SendOn(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply { std.egress_spec = 2; }
}

control NoEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) { apply {} }

control NoCompute(inout headers_t hdr, inout metadata_t meta) { apply {} }

control LoggingDeparser(packet_out packet, in headers_t hdr) {
    apply {
        log_msg("b is {}", {hdr.probe.b});
        assert(hdr.probe.a != 3);
        packet.emit(hdr.probe);
    }
}

V1Switch(DeparserParser(), NoVerify(), SendOn(), NoEgress(), NoCompute(), LoggingDeparser()) main;
