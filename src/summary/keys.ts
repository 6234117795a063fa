/** The keys under which summaries and beacons stand in the summary replica (docs/design/summaries.md, The summary replica). */
import { CONTROL_NAMESPACE } from "../catalog/entry/names.ts";
import { SCOPE } from "../catalog/entry/scope.ts";
import { type KeyText, KIND, keyParts, keyText } from "../catalog/record/record.ts";
import type { Channel, SummaryKey } from "./summary.ts";

/** The namespace of beacons. No policy hides it, because it is the control plane's. */
export const BEACON_NAMESPACE: string = `${CONTROL_NAMESPACE}.summaries`;
const BEACON_INSTANCE = "beacon";

const WORDS: readonly (readonly [Channel, string])[] = [
  [SCOPE.ZONE, "zone"],
  [SCOPE.REGION, "region"],
  [SCOPE.GLOBAL, "global"],
];

/** The key of a summary: its channel is the instance, and its source the cluster. */
export function recordKey({ source, kind, namespace, serviceId, channel }: SummaryKey): KeyText {
  const [, word = ""] = WORDS.find(([scope]) => scope === channel) ?? [];
  return keyText({ kind, namespace, name: serviceId, instanceId: word, clusterId: source });
}

/** The key of the beacon of a cluster. */
export function beaconKey(source: string): KeyText {
  return keyText({ kind: KIND.NODE, namespace: BEACON_NAMESPACE, name: source, instanceId: BEACON_INSTANCE, clusterId: source });
}

/** The key of the announcement of a key of a cluster, under that key which signed it. Key ids are 16 digits. */
export function announcementKey(source: string, keyId: string, signedBy: string): KeyText {
  const instanceId = `key-${keyId}-${signedBy}`;
  return keyText({ kind: KIND.NODE, namespace: BEACON_NAMESPACE, name: source, instanceId, clusterId: source });
}

/** The parts of the key of a summary; undefined for the key of a beacon or an announcement. */
export function summaryKeyOf(key: KeyText): SummaryKey | undefined {
  const { kind, namespace, name, instanceId, clusterId } = keyParts(key);
  const [channel] = WORDS.find(([, word]) => word === instanceId) ?? [];
  return channel === undefined ? undefined : { source: clusterId, kind, namespace, serviceId: name, channel };
}

/** The kinds of entries that are summarised, as bits `1 << kind`. */
export const SUMMARISED_MASK: number = [KIND.SERVICE, KIND.FUNCTION, KIND.TOPIC, KIND.QUEUE, KIND.CACHE].reduce(
  (mask, kind) => mask | (1 << kind),
  0,
);
