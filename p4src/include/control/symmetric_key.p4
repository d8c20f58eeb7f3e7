// The symmetric flow key: the endpoint (address, port) that is smaller goes first, so that both directions of a flow
// have one key, one entry and one bucket.
//
//      client 10.0.1.2:40000 → server 10.0.2.2:80  ┐   low  10.0.1.2:40000
//      server 10.0.2.2:80 → client 10.0.1.2:40000  ┘   high 10.0.2.2:80
//
// Hardware compares a field with a constant, not with another field (Tofino's compiler refuses `src < dst`).
// But it has saturating subtraction: `a |-| b` stops at 0, so it is 0 exactly if a <= b. IPv6 addresses are
// compared in words of 32 bits, the widest that such hardware subtracts, the most significant word first.

#ifndef SPLITMERGE_SYMMETRIC_KEY
#define SPLITMERGE_SYMMETRIC_KEY

control SymmetricKey(in headers_t hdr, inout metadata_t meta) {

    // How much the source's part is above the destination's, and below it; 0 if it is not.
    bit<32> above;
    bit<32> below;
    bit<16> port_above;

    @hidden action source_first_v4() {
        meta.low_addr_v4 = hdr.ipv4.src_addr;
        meta.high_addr_v4 = hdr.ipv4.dst_addr;
        meta.low_port = meta.src_port;
        meta.high_port = meta.dst_port;
    }

    @hidden action destination_first_v4() {
        meta.low_addr_v4 = hdr.ipv4.dst_addr;
        meta.high_addr_v4 = hdr.ipv4.src_addr;
        meta.low_port = meta.dst_port;
        meta.high_port = meta.src_port;
    }

    @hidden action source_first_v6() {
        meta.low_addr_v6 = hdr.ipv6.src_addr;
        meta.high_addr_v6 = hdr.ipv6.dst_addr;
        meta.low_port = meta.src_port;
        meta.high_port = meta.dst_port;
    }

    @hidden action destination_first_v6() {
        meta.low_addr_v6 = hdr.ipv6.dst_addr;
        meta.high_addr_v6 = hdr.ipv6.src_addr;
        meta.low_port = meta.dst_port;
        meta.high_port = meta.src_port;
    }

    // The first word in which the two addresses differ decides; above and below are both 0 if there is none.
    @hidden action compare_v4() {
        above = hdr.ipv4.src_addr |-| hdr.ipv4.dst_addr;
        below = hdr.ipv4.dst_addr |-| hdr.ipv4.src_addr;
    }

    @hidden action compare_v6_word3() {
        above = hdr.ipv6.src_addr[127:96] |-| hdr.ipv6.dst_addr[127:96];
        below = hdr.ipv6.dst_addr[127:96] |-| hdr.ipv6.src_addr[127:96];
    }

    @hidden action compare_v6_word2() {
        above = hdr.ipv6.src_addr[95:64] |-| hdr.ipv6.dst_addr[95:64];
        below = hdr.ipv6.dst_addr[95:64] |-| hdr.ipv6.src_addr[95:64];
    }

    @hidden action compare_v6_word1() {
        above = hdr.ipv6.src_addr[63:32] |-| hdr.ipv6.dst_addr[63:32];
        below = hdr.ipv6.dst_addr[63:32] |-| hdr.ipv6.src_addr[63:32];
    }

    @hidden action compare_v6_word0() {
        above = hdr.ipv6.src_addr[31:0] |-| hdr.ipv6.dst_addr[31:0];
        below = hdr.ipv6.dst_addr[31:0] |-| hdr.ipv6.src_addr[31:0];
    }

    apply {
        port_above = meta.src_port |-| meta.dst_port;
        if (hdr.ipv4.isValid()) {
            meta.version = 4;
            compare_v4();
            if (above != 0 || (below == 0 && port_above != 0)) {
                destination_first_v4();
            } else {
                source_first_v4();
            }
            // 13 bytes, the wire form of splitmerge/flowkey.py.
            hash(meta.bucket, HashAlgorithm.crc32, FIRST_BUCKET,
                 { meta.low_addr_v4, meta.high_addr_v4, meta.low_port, meta.high_port, meta.protocol }, BUCKETS);
        } else {
            meta.version = 6;
            compare_v6_word3();
            if (above == 0 && below == 0) {
                compare_v6_word2();
            }
            if (above == 0 && below == 0) {
                compare_v6_word1();
            }
            if (above == 0 && below == 0) {
                compare_v6_word0();
            }
            if (above != 0 || (below == 0 && port_above != 0)) {
                destination_first_v6();
            } else {
                source_first_v6();
            }
            // 37 bytes.
            hash(meta.bucket, HashAlgorithm.crc32, FIRST_BUCKET,
                 { meta.low_addr_v6, meta.high_addr_v6, meta.low_port, meta.high_port, meta.protocol }, BUCKETS);
        }
    }
}

#endif
