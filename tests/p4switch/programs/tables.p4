// Tables: every match kind, const entries, priorities, defaults, hit, action_run, exit, profiles, selectors, direct externs.
#include "common.p4"

header key_t {
    bit<8> which; // the table to apply
    bit<8> x;
    bit<16> y;
    bit<8> result;
    bit<8> second;
}

struct headers {
    key_t key;
}

struct metadata {
    bit<2> colour;
}

parser MyParser(packet_in packet, out headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    state start {
        packet.extract(hdr.key);
        transition accept;
    }
}

control MyIngress(inout headers hdr, inout metadata meta, inout standard_metadata_t standard_metadata) {
    direct_counter(CounterType.packets_and_bytes) exact_counter;
    direct_meter<bit<2>>(MeterType.packets) lpm_meter;

    action set(bit<8> value) {
        hdr.key.result = value;
    }
    action set_and_mark(bit<8> value) {
        hdr.key.result = value;
        hdr.key.second = 1;
    }
    action metered(bit<8> value) {
        lpm_meter.read(meta.colour);
        hdr.key.result = value;
        hdr.key.second = (bit<8>)meta.colour;
    }
    action stop() {
        hdr.key.second = 0xff;
        exit;
    }

    table exact_table {
        key = {
            hdr.key.x: exact @name("x");
            hdr.key.y: exact @name("y");
        }
        actions = { set; set_and_mark; stop; }
        default_action = set(0xd0);
        counters = exact_counter;
        support_timeout = true;
        size = 4;
    }
    table lpm_table {
        key = {
            hdr.key.y: lpm @name("y");
        }
        actions = { metered; NoAction; }
        default_action = NoAction();
        meters = lpm_meter;
    }
    table ternary_table {
        key = {
            hdr.key.x: ternary @name("x");
            hdr.key.y: lpm @name("y");
        }
        actions = { set; NoAction; }
        const default_action = NoAction();
    }
    table range_table {
        key = {
            hdr.key.x: range @name("x");
            hdr.key.y: exact @name("y");
        }
        actions = { set; NoAction; }
        default_action = NoAction();
    }
    table optional_table {
        key = {
            hdr.key.x: optional @name("x");
        }
        actions = { set; NoAction; }
        default_action = NoAction();
    }
    table const_table {
        key = {
            hdr.key.x: ternary @name("x");
        }
        actions = { set; NoAction; }
        const default_action = NoAction();
        const entries = {
            0x10 &&& 0xf0: set(1);
            0x12: set(2); // shadowed by the entry above
            0x20: set(3);
            _: set(4);
        }
    }
    table profile_table {
        key = {
            hdr.key.x: exact @name("x");
        }
        actions = { set; set_and_mark; NoAction; }
        implementation = action_profile(8);
    }
    table selector_table {
        key = {
            hdr.key.x: exact @name("x");
            hdr.key.y: selector @name("y");
        }
        actions = { set; NoAction; }
        implementation = action_selector(HashAlgorithm.identity, 16, 16);
    }

    apply {
        standard_metadata.egress_spec = 1;
        if (hdr.key.which == 1) {
            if (exact_table.apply().hit) {
                hdr.key.which = 0x81;
            }
        } else if (hdr.key.which == 2) {
            lpm_table.apply();
        } else if (hdr.key.which == 3) {
            ternary_table.apply();
        } else if (hdr.key.which == 4) {
            range_table.apply();
        } else if (hdr.key.which == 5) {
            optional_table.apply();
        } else if (hdr.key.which == 6) {
            const_table.apply();
        } else if (hdr.key.which == 7) {
            switch (profile_table.apply().action_run) {
                set: { hdr.key.which = 0x87; }
                set_and_mark: { hdr.key.which = 0x97; }
                default: { }
            }
        } else {
            selector_table.apply();
        }
        hdr.key.y = hdr.key.y + 1;
    }
}

control MyDeparser(packet_out packet, in headers hdr) {
    apply {
        packet.emit(hdr);
    }
}

V1Switch(MyParser(), NoVerify<headers, metadata>(), MyIngress(), NoEgress<headers, metadata>(),
    NoUpdate<headers, metadata>(), MyDeparser()) main;
