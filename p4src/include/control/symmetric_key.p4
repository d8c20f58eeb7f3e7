// The symmetric flow key: the endpoint (address, port) that is smaller goes first, so that both directions of a flow
// have one key, one entry and one bucket.
//
//      client 10.0.1.2:40000 → server 10.0.2.2:80  ┐   low  10.0.1.2:40000
//      server 10.0.2.2:80 → client 10.0.1.2:40000  ┘   high 10.0.2.2:80
//
// Hardware compares a field with a constant, not with another field (Tofino's compiler refuses `src < dst`).
// But it has saturating subtraction: `src |-| dst` stops at 0, so it is 0 exactly if src <= dst. An IPv6 address is
// compared in words of 32 bits, the widest that such hardware subtracts: the most significant word in which the
// addresses differ decides, and if there is none, the ports do. Every test is one word against zero.

#ifndef SPLITMERGE_SYMMETRIC_KEY
#define SPLITMERGE_SYMMETRIC_KEY

control SymmetricKey(in headers_t hdr, inout metadata_t meta) {

    bit<32> differ;    // 0: the parts compared last are equal
    bit<32> above;     // 0: the source's part is not above the destination's

    @hidden action compare_v4() {
        differ = hdr.ipv4.src_addr ^ hdr.ipv4.dst_addr;
        above = hdr.ipv4.src_addr |-| hdr.ipv4.dst_addr;
    }

    @hidden action compare_v6_word3() {
        differ = hdr.ipv6.src_addr[127:96] ^ hdr.ipv6.dst_addr[127:96];
        above = hdr.ipv6.src_addr[127:96] |-| hdr.ipv6.dst_addr[127:96];
    }

    @hidden action compare_v6_word2() {
        differ = hdr.ipv6.src_addr[95:64] ^ hdr.ipv6.dst_addr[95:64];
        above = hdr.ipv6.src_addr[95:64] |-| hdr.ipv6.dst_addr[95:64];
    }

    @hidden action compare_v6_word1() {
        differ = hdr.ipv6.src_addr[63:32] ^ hdr.ipv6.dst_addr[63:32];
        above = hdr.ipv6.src_addr[63:32] |-| hdr.ipv6.dst_addr[63:32];
    }

    @hidden action compare_v6_word0() {
        differ = hdr.ipv6.src_addr[31:0] ^ hdr.ipv6.dst_addr[31:0];
        above = hdr.ipv6.src_addr[31:0] |-| hdr.ipv6.dst_addr[31:0];
    }

    @hidden action compare_ports() {
        above = (bit<32>) (meta.src_port |-| meta.dst_port);
    }

    @hidden action source_first_v4() {
        meta.version = 4;
        meta.low_addr_v4 = hdr.ipv4.src_addr;
        meta.high_addr_v4 = hdr.ipv4.dst_addr;
        meta.low_port = meta.src_port;
        meta.high_port = meta.dst_port;
    }

    @hidden action destination_first_v4() {
        meta.version = 4;
        meta.low_addr_v4 = hdr.ipv4.dst_addr;
        meta.high_addr_v4 = hdr.ipv4.src_addr;
        meta.low_port = meta.dst_port;
        meta.high_port = meta.src_port;
    }

    @hidden action source_first_v6() {
        meta.version = 6;
        meta.low_addr_v6 = hdr.ipv6.src_addr;
        meta.high_addr_v6 = hdr.ipv6.dst_addr;
        meta.low_port = meta.src_port;
        meta.high_port = meta.dst_port;
    }

    @hidden action destination_first_v6() {
        meta.version = 6;
        meta.low_addr_v6 = hdr.ipv6.dst_addr;
        meta.high_addr_v6 = hdr.ipv6.src_addr;
        meta.low_port = meta.dst_port;
        meta.high_port = meta.src_port;
    }

    apply {
        if (hdr.ipv4.isValid()) {
            compare_v4();
            if (differ == 0) {
                compare_ports();
            }
            if (above == 0) {
                source_first_v4();
            } else {
                destination_first_v4();
            }
            // 13 bytes: the wire form of splitmerge/flowkey.py.
            hash(meta.bucket, HashAlgorithm.crc32, FIRST_BUCKET,
                 { meta.low_addr_v4, meta.high_addr_v4, meta.low_port, meta.high_port, meta.protocol }, BUCKETS);
        } else {
            compare_v6_word3();
            if (differ == 0) {
                compare_v6_word2();
            }
            if (differ == 0) {
                compare_v6_word1();
            }
            if (differ == 0) {
                compare_v6_word0();
            }
            if (differ == 0) {
                compare_ports();
            }
            if (above == 0) {
                source_first_v6();
            } else {
                destination_first_v6();
            }
            // 37 bytes.
            hash(meta.bucket, HashAlgorithm.crc32, FIRST_BUCKET,
                 { meta.low_addr_v6, meta.high_addr_v6, meta.low_port, meta.high_port, meta.protocol }, BUCKETS);
        }
    }
}

#endif
