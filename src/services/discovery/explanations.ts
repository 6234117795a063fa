/** Why records are or are not in an answer, as messages. */
import { create, toBinary } from "@bufbuild/protobuf";
import { EntryKeySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { type Explanation, ExplanationSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { type KeyText, keyParts } from "../../catalog/record/record.ts";

export interface Explained {
  readonly key: KeyText;
  readonly kept: boolean;
  readonly reason: string;
  readonly detail: string;
}

export function explanationOf({ key, kept, reason, detail }: Explained): Explanation {
  return create(ExplanationSchema, { key: create(EntryKeySchema, keyParts(key)), kept, reason, detail });
}

export function encodeExplanations(explained: readonly Explained[]): readonly Uint8Array[] {
  return explained.map((one) => toBinary(ExplanationSchema, explanationOf(one)));
}
