// Where a replica is. The packet goes there as it came: every replica has the MAC and the addresses of the middlebox.
//
// Entries that the control plane installs:
//   replica   7   → to_replica(11)      one for each replica, while it lives

#ifndef SPLITMERGE_REPLICA
#define SPLITMERGE_REPLICA

control Replica(inout metadata_t meta, inout standard_metadata_t standard_metadata) {

    action to_replica(port_t port) {
        standard_metadata.egress_spec = port;
    }

    action no_replica() {
        meta.drop_reason = DropReason.NO_REPLICA;
    }

    table replica {
        key = {
            meta.replica : exact @name("replica");
        }
        actions = {
            to_replica;
            @defaultonly no_replica;
        }
        const default_action = no_replica();
        size = REPLICA_SIZE;
    }

    apply {
        replica.apply();
    }
}

#endif
