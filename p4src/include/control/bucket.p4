// Flows without an entry: their hash class decides.
//
// Entries that the control plane installs, one for each of the buckets 0..1023:
//   bucket   17   → steer_bucket(replica, suspend)      assignment by hash: no controller on the path
//            18   → ask_controller()                    assignment by the controller: it gets the packet

#ifndef SPLITMERGE_BUCKET
#define SPLITMERGE_BUCKET

control Bucket(inout metadata_t meta, out bool ask) {

    action steer_bucket(replica_t replica, bit<1> suspend) {
        meta.replica = replica;
        meta.suspend = suspend;
    }

    action ask_controller() {
        ask = true;
    }

    action no_bucket() {
        meta.drop_reason = DropReason.NO_BUCKET;
    }

    table bucket {
        key = {
            meta.bucket : exact @name("bucket");
        }
        actions = {
            steer_bucket;
            ask_controller;
            @defaultonly no_bucket;
        }
        const default_action = no_bucket();
        size = BUCKET_SIZE;
    }

    apply {
        ask = false;
        bucket.apply();
    }
}

#endif
