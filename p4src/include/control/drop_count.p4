// No packet is lost in silence: counter `drops`, indexed by DropReason.

#ifndef SPLITMERGE_DROP_COUNT
#define SPLITMERGE_DROP_COUNT

control DropCount(in metadata_t meta) {

    counter<bit<8>>(DROP_REASONS, CounterType.packets_and_bytes) drops;

    apply {
        if (meta.drop_reason != DropReason.NONE) {
            drops.count((bit<8>) meta.drop_reason);
        }
    }
}

#endif
