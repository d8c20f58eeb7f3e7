// The flow tables: which replica holds this flow's state, and whether the flow is suspended.
//
// Entries that the control plane installs (low is the smaller endpoint, see SymmetricKey):
//   flow_v4   low_addr, high_addr, low_port, high_port, protocol   → steer(replica, suspend)
//   flow_v6   the same                                             → steer(replica, suspend)
//
// Replica and suspend bit are in one entry's action data on purpose: one MODIFY changes both at once, here and on
// hardware, so no packet ever sees the new replica with the old suspend bit. Every entry counts its packets and may
// have an idle timeout, after which the controller is told. No entry: the bucket decides.

#ifndef SPLITMERGE_FLOW
#define SPLITMERGE_FLOW

control Flow(in headers_t hdr, inout metadata_t meta, out bool known) {

    // v1model on BMv2 counts on every hit by itself; without calls to count(), both tables can share one action.
    direct_counter(CounterType.packets_and_bytes) flow_v4_counter;
    direct_counter(CounterType.packets_and_bytes) flow_v6_counter;

    action steer(replica_t replica, bit<1> suspend) {
        meta.replica = replica;
        meta.suspend = suspend;
    }

    table flow_v4 {
        key = {
            meta.low_addr_v4  : exact @name("low_addr");
            meta.high_addr_v4 : exact @name("high_addr");
            meta.low_port     : exact @name("low_port");
            meta.high_port    : exact @name("high_port");
            meta.protocol     : exact @name("protocol");
        }
        actions = {
            steer;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        counters = flow_v4_counter;
        support_timeout = true;
        size = FLOW_V4_SIZE;
    }

    table flow_v6 {
        key = {
            meta.low_addr_v6  : exact @name("low_addr");
            meta.high_addr_v6 : exact @name("high_addr");
            meta.low_port     : exact @name("low_port");
            meta.high_port    : exact @name("high_port");
            meta.protocol     : exact @name("protocol");
        }
        actions = {
            steer;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        counters = flow_v6_counter;
        support_timeout = true;
        size = FLOW_V6_SIZE;
    }

    apply {
        if (hdr.ipv4.isValid()) {
            known = flow_v4.apply().hit;
        } else {
            known = flow_v6.apply().hit;
        }
    }
}

#endif
