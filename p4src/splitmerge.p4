/* Splitmerge's switch: sends every flow to the middlebox replica that holds its state.

   Theory of operation
   -------------------
   A stateful middlebox (an IDS, a NAT, …) runs as several replicas. Each flow's state is in exactly one of them, so the
   switch must send all packets of a flow, in both directions, to that one; and while the state is being moved to another
   replica, no packet may go to either. Ports have roles (table port_role):

     from a host           the flow table, or else the bucket table, names the replica; the replica table has its port
     from a replica        the middlebox has done its work: forward by destination, as a router does
     from the controller   it wants a frame sent (packet-out), perhaps with a tag
     from a trunk          another switch has decided: a tag names the replica, or the destination says where it goes

       clients ──┐                                   ┌── replica 1
                 ├── host ports  SWITCH  replica ports ── replica 2
       servers ──┘                  │                └── replica 3
                     CPU port or punt port: controller     (trunk ports lead to further switches of this kind)

     host ─► admission ─► ARP? neighbour solicitation? ─► answered here
                 │
                 ▼
            symmetric key ─► flow_v4 / flow_v6 ──miss──► bucket ──ask──► punt (NEW_FLOW)
                                   │ hit                   │ steer
                                   └─────────┬─────────────┘
                                             ▼
                                         suspended? ──yes──► punt (SUSPENDED)
                                             │ no
                                             ▼
                                          replica ─► the replica's port, packet unchanged

     replica ─► admission ─► tagged? ─► MARKER_ECHO, RELAY_ACK: punt (TAGGED);  LOOP: back where it came from
                    │
                    ▼
                 route_v4 / route_v6 ─► the host's port, MACs set, TTL decremented

     trunk ─► admission ─► tagged? ─► replica, as above
                    │
                    ▼
                 route_v4 / route_v6, TTL unchanged

     controller ─► packet-out ─► the port it asks for, tagged if it asks for that;  LOOP: back where it came from

   The controller is behind the CPU port, which is P4Runtime's (packet-ins, packet-outs), or behind a punt port: an
   Ethernet port wired to its host, as a hardware switch's CPU port is, faster than any gRPC stream.

   Punting is a clone to the controller's port with a packet-in header in front; the original is dropped. Since the
   suspend bit stands beside the replica in one entry, one table write stops a flow, and one sends it to its new replica.
   That nothing overtakes anything is proved by tagged frames that go through the same queues as data: MARKER follows the
   last packet to a replica, LOOP follows the last punted packet to the controller (see docs/p4.md). A replica's own LOOP
   shows it that the switch has taken all that it sent.

   Every packet is marked to be dropped before anything else; a control that wants it sent says where to. Whatever is
   not sent has a reason, and counter `drops` counts by reason.

   This file holds the apply order only; include/control/ has one control a file, each with the table entries that the
   control plane must install. */

#define V1MODEL_VERSION 20200408
#include <core.p4>
#include <v1model.p4>

#include "include/define.p4"
#include "include/header.p4"
#include "include/parser.p4"
#include "include/checksum.p4"
#include "include/control/port_role.p4"
#include "include/control/admission.p4"
#include "include/control/packet_outs.p4"
#include "include/control/tag_gate.p4"
#include "include/control/arp_responder.p4"
#include "include/control/neighbor_responder.p4"
#include "include/control/symmetric_key.p4"
#include "include/control/flow.p4"
#include "include/control/bucket.p4"
#include "include/control/punt.p4"
#include "include/control/replica.p4"
#include "include/control/route.p4"
#include "include/control/drop_count.p4"
#include "include/control/packet_ins.p4"

control SplitmergeIngress(
        inout headers_t hdr,
        inout metadata_t meta,
        inout standard_metadata_t standard_metadata) {

    PacketOuts() packet_outs;
    PortRoles() port_roles;
    Admission() admission;
    TagGate() tag_gate;
    ArpResponder() arp_responder;
    NeighborResponder() neighbor_responder;
    SymmetricKey() symmetric_key;
    Flow() flow;
    Bucket() buckets;
    Punt() punt;
    Replica() replicas;
    Route() route;
    DropCount() drop_count;

    bool known = false;    // the flow has an entry
    bool ask = false;      // it has none, and its bucket says: ask the controller
    bool steered = false;  // it goes to meta.replica
    bool answer = false;   // a replica's answer to the controller

    apply {
        mark_to_drop(standard_metadata);

        port_roles.apply(meta, standard_metadata);
        if (meta.role == PortRole.CONTROLLER) {
            packet_outs.apply(hdr, meta, standard_metadata);
        } else {
            if (meta.drop_reason == DropReason.NONE) {
                admission.apply(hdr, meta, standard_metadata);
            }
            if (meta.drop_reason == DropReason.NONE) {
                if (hdr.tag.isValid()) {
                    tag_gate.apply(hdr, meta, standard_metadata, steered, answer);
                    if (answer) {
                        punt.apply(meta, PuntReason.TAGGED);
                    }
                } else if (hdr.arp.isValid()) {
                    arp_responder.apply(hdr, meta, standard_metadata);
                } else if (hdr.ipv6.isValid() && hdr.icmp.isValid()
                        && hdr.icmp.type >= ND_FIRST_TYPE && hdr.icmp.type <= ND_LAST_TYPE) {
                    neighbor_responder.apply(hdr, meta, standard_metadata);
                } else if (meta.role != PortRole.HOST) {
                    route.apply(hdr, meta, standard_metadata);
                } else {
                    symmetric_key.apply(hdr, meta);
                    flow.apply(hdr, meta, known);
                    if (!known) {
                        buckets.apply(meta, ask);
                    }
                    if (ask) {
                        punt.apply(meta, PuntReason.NEW_FLOW);
                    } else if (meta.suspend == 1) {
                        punt.apply(meta, PuntReason.SUSPENDED);
                    } else {
                        steered = meta.drop_reason == DropReason.NONE;
                    }
                }
            }
        }

        if (steered) {
            replicas.apply(hdr, meta, standard_metadata);
        }

        drop_count.apply(meta);
    }
}

control SplitmergeEgress(
        inout headers_t hdr,
        inout metadata_t meta,
        inout standard_metadata_t standard_metadata) {

    PacketIns() packet_ins;

    apply {
        packet_ins.apply(hdr, meta, standard_metadata);
    }
}

@pkginfo(name = "splitmerge.p4", version = "1.2.0", organization = "Splitmerge")
@pkginfo(brief = "Steers flows to middlebox replicas, and suspends them while their state moves")
V1Switch(
    SplitmergeParser(),
    SplitmergeVerifyChecksum(),
    SplitmergeIngress(),
    SplitmergeEgress(),
    SplitmergeComputeChecksum(),
    SplitmergeDeparser()
) main;
