// Who is behind the ingress port.
//
// Entries that the control plane installs:
//   port_role   ingress_port 1    → set_host()          one for each client or server port
//               ingress_port 11   → set_replica(7)      one for each replica, while it lives
//               ingress_port 509  → set_controller()    the punt port, if there is one; the CPU port needs no entry
//               ingress_port 21   → set_trunk()         one for each port that leads to another switch of this kind

#ifndef SPLITMERGE_PORT_ROLE
#define SPLITMERGE_PORT_ROLE

control PortRoles(inout metadata_t meta, in standard_metadata_t standard_metadata) {

    action set_host() {
        meta.role = PortRole.HOST;
    }

    action set_replica(replica_t replica) {
        meta.role = PortRole.REPLICA;
        meta.replica = replica;
    }

    action set_controller() {
        meta.role = PortRole.CONTROLLER;
    }

    action set_trunk() {
        meta.role = PortRole.TRUNK;
    }

    action unknown_port() {
        meta.drop_reason = DropReason.UNKNOWN_PORT;
    }

    table port_role {
        key = {
            standard_metadata.ingress_port : exact @name("ingress_port");
        }
        actions = {
            set_host;
            set_replica;
            set_controller;
            set_trunk;
            @defaultonly unknown_port;
        }
        const default_action = unknown_port();
        size = PORT_ROLE_SIZE;
    }

    apply {
        if (standard_metadata.ingress_port == CPU_PORT) {
            set_controller();
        } else {
            port_role.apply();
        }
    }
}

#endif
