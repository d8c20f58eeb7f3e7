// Queues as a program sees them: its first byte is the priority, what the target says comes back in the frame.
// v1model has no qid: the tests make an alias of the metadata field. What the deparser logs, p4c writes as a primitive
// of the deparser.
#include <core.p4>
#define V1MODEL_VERSION 20200408
#include <v1model.p4>

header report_t {
    bit<8> priority;
    bit<8> session;
    bit<8> qid;
    bit<32> enqueued;
    bit<32> waited;
    bit<24> depth_in;
    bit<24> depth_out;
}

struct headers_t {
    report_t report;
}

struct metadata_t {
    bit<8> qid;
}

parser MyParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    state start {
        packet.extract(hdr.report);
        transition accept;
    }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    apply {
        standard.egress_spec = 1;
        standard.priority = (bit<3>)hdr.report.priority;
        if (hdr.report.session != 0) {
            clone(CloneType.I2E, (bit<32>)hdr.report.session);
        }
    }
}

control MyEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    apply {
        hdr.report.qid = meta.qid;
        hdr.report.enqueued = standard.enq_timestamp;
        hdr.report.waited = standard.deq_timedelta;
        hdr.report.depth_in = (bit<24>)standard.enq_qdepth;
        hdr.report.depth_out = (bit<24>)standard.deq_qdepth;
    }
}

control NoVerify(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control NoUpdate(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control MyDeparser(packet_out packet, in headers_t hdr) {
    apply {
        log_msg("left queue {}", { hdr.report.qid });
        packet.emit(hdr.report);
    }
}

V1Switch(MyParser(), NoVerify(), MyIngress(), MyEgress(), NoUpdate(), MyDeparser()) main;
