/** What a `SummarySpaceFrame` and a `BorderFrame` of `waymark.fabric.v1` say. */
import type { BorderFields, BorderFrameFields, SpaceFields, SummarySpaceFrameFields } from "../../../gen/waymark/fabric/v1/fabric_codec.ts";
import { invalid } from "../../lib/errors.ts";
import type { BorderFrame, LinkFrame, ReplicationFrame } from "./messages.ts";
import { recordsOf } from "./records-codec.ts";
import { MESSAGE_BOUNDS } from "./validation.ts";
import { fieldsOfVector, vectorOf } from "./vector-codec.ts";

/** Of a digest that names its buckets. */
const BORDER_BUCKETS = 256;

/** Of a frame that breaks no rule. */
export function spaceOf({ space }: SummarySpaceFrameFields): LinkFrame {
  switch (space.case) {
    case "vector":
      return { kind: "summaries", frame: vectorOf(space.value) };
    case "records":
      return { kind: "summaries", frame: recordsOf(space.value) };
    case "digests":
      return { kind: "summaries", frame: { kind: space.case, ...space.value } };
    case "linked":
      return { kind: "summaries", frame: { kind: space.case, ...space.value } };
    case undefined:
      return { kind: "unknown" };
  }
}

export function fieldsOfSpace(frame: ReplicationFrame): SpaceFields {
  switch (frame.kind) {
    case "vector":
      return { case: "vector", value: fieldsOfVector(frame) };
    case "records":
      return { case: "records", value: { ...frame.frame, clusterId: frame.clusterId, region: frame.region } };
    case "digests":
      return { case: frame.kind, value: frame };
    case "linked":
      return { case: frame.kind, value: frame };
  }
}

/** Of a frame that breaks no rule; refuses lists that do not fit together, and a batch larger than any version sends. */
export function borderOf({ border }: BorderFrameFields): LinkFrame {
  switch (border.case) {
    case "rules":
      return { kind: "borderRules", ...border.value };
    case "batch": {
      const { summaries, beacons, keys, beaconAgesMs } = border.value;
      const all = [...summaries, ...beacons, ...keys];
      const sizeBytes = all.reduce((sum, { signed, signature }) => sum + signed.length + signature.length, 0);
      if (all.length > 1 && sizeBytes > MESSAGE_BOUNDS.maxBatchBytes)
        throw invalid("border.batch", `${sizeBytes} bytes are more than ${MESSAGE_BOUNDS.maxBatchBytes}`);
      if (beaconAgesMs.length !== beacons.length)
        throw invalid("border.batch.beacon_ages_ms", `${beaconAgesMs.length} for ${beacons.length} beacons`);
      return { kind: "borderBatch", ...border.value };
    }
    case "digest": {
      const { length } = border.value.buckets;
      if (length !== 0 && length !== BORDER_BUCKETS) throw invalid("border.digest.buckets", `${length} must be 0 or ${BORDER_BUCKETS}`);
      return { kind: "borderDigest", ...border.value };
    }
    case "have": {
      const { hashes, versions } = border.value;
      if (versions.length !== hashes.length) throw invalid("border.have.versions", `${versions.length} for ${hashes.length} hashes`);
      return { kind: "borderHave", ...border.value };
    }
    case undefined:
      return { kind: "unknown" };
  }
}

export function fieldsOfBorder(frame: BorderFrame): BorderFields {
  switch (frame.kind) {
    case "borderRules":
      return { case: "rules", value: frame };
    case "borderBatch":
      return { case: "batch", value: frame };
    case "borderDigest":
      return { case: "digest", value: frame };
    case "borderHave":
      return { case: "have", value: frame };
  }
}
