// What the test programs share: v1model, a result header that carries answers out, and empty controls.
#include <core.p4>
#define V1MODEL_VERSION 20200408
#include <v1model.p4>

#ifndef COMMON_P4_
#define COMMON_P4_

header word_t {
    bit<32> a;
    bit<32> b;
}

control NoEgress<H, M>(inout H hdr, inout M meta, inout standard_metadata_t standard_metadata) {
    apply { }
}

control NoVerify<H, M>(inout H hdr, inout M meta) {
    apply { }
}

control NoUpdate<H, M>(inout H hdr, inout M meta) {
    apply { }
}
#endif
