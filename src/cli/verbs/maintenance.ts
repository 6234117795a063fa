/** Implements `discovery maintenance`: starts or ends maintenance of entries. */
import { durationMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { EntryKind } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { Reason } from "../../../gen/waymark/catalog/v1/reason_pb.js";
import { DiscoveryService, SetMaintenanceResponseSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { enumWord } from "../../lib/enum-words.ts";
import { EXIT, UsageError } from "../exit.ts";
import type { Flags } from "../flags.ts";
import { messageJson } from "../messages.ts";
import type { VerbFunction } from "../table/verb.ts";
import { keyWords, splitKey } from "../texts.ts";

/** Parses `namespace/name/instance`. Names and instances that contain a slash must be given as flags. */
function keyOf(text: string, kind: EntryKind) {
  const names = splitKey(text);
  if (names === undefined)
    throw new UsageError(
      `invalid entry ${text}: expected namespace/name/instance; for names with a slash, use --namespace, --name and --instance`,
    );
  return { kind, ...names };
}

function keysOf(texts: readonly string[], flags: Flags) {
  const kind = flags.enum("kind", EntryKind) || EntryKind.SERVICE;
  const [namespace, name, instanceId] = [flags.text("namespace"), flags.text("name"), flags.text("instance")];
  const keys = texts.map((text) => keyOf(text, kind));
  if (namespace === undefined && name === undefined && instanceId === undefined) return keys;
  if (namespace === undefined || name === undefined || instanceId === undefined)
    throw new UsageError("--namespace, --name and --instance must be set together");
  return [...keys, { kind, namespace, name, instanceId }];
}

function requestOf([word, ...texts]: readonly string[], flags: Flags) {
  const keys = keysOf(texts, flags);
  const nodeId = flags.text("node") ?? "";
  if (nodeId !== "" && keys.length > 0) throw new UsageError("entries and --node cannot be combined");
  if (nodeId === "" && keys.length === 0)
    throw new UsageError("missing entries: specify them as namespace/name/instance, or select a node with --node");
  const on = word === "on";
  const [reason, untilMs] = [flags.text("reason"), flags.futureMs("until", Date.now())];
  if (!on && (reason !== undefined || untilMs !== undefined))
    throw new UsageError("--reason and --until can be used only with maintenance on");
  return { keys, nodeId, on, reason: reason ?? "", ...(untilMs !== undefined && { until: timestampFromMs(untilMs) }) };
}

export const maintenance: VerbFunction = async ({ args, flags, out, client }) => {
  const answer = await client().call(DiscoveryService.method.setMaintenance, requestOf(args, flags));
  out.document(messageJson(SetMaintenanceResponseSchema, answer), {
    columns: [
      { title: "CHANGED", text: ({ changed }) => String(changed) },
      { title: "UNCHANGED", text: ({ unchanged }) => String(unchanged) },
      { title: "REFUSED", text: ({ refused }) => String(refused) },
    ],
    rows: [answer],
  });
  for (const { key, reason, message, retryAfter } of answer.refusals) {
    const again = retryAfter === undefined ? "" : `; try again in ${Math.ceil(durationMs(retryAfter) / 1000)} s`;
    out.error(`${keyWords(key)}: ${enumWord(Reason, reason)}: ${message}${again}`);
  }
  if (answer.refused === 0n) return EXIT.done;
  return answer.refusals.every(({ reason }) => reason === Reason.NOT_FOUND) ? EXIT.notFound : EXIT.failed;
};
