/** Implements `summary keys`: lists the signing keys that a node trusts, and announces a new key. */
import { type ClusterKey, ClusterKeySchema, PeerService } from "../../../gen/waymark/control/v1/peer_pb.js";
import { ID } from "../../config/field.ts";
import { DAY_MS } from "../../lib/duration.ts";
import type { AnnouncedKey } from "../environment.ts";
import { CommandError, EXIT, UsageError } from "../exit.ts";
import { timeText, wholeJson } from "../messages.ts";
import type { TableColumn } from "../output.ts";
import { readPages } from "../pages.ts";
import type { VerbFunction } from "../table/verb.ts";

/** A key that must be valid for longer should be added to the settings. */
const MAX_FOR_MS = 3650 * DAY_MS;

const KEY_COLUMNS: readonly TableColumn<ClusterKey>[] = [
  { title: "CLUSTER", text: ({ clusterId }) => clusterId },
  { title: "REGION", text: ({ region }) => region },
  { title: "KEY", text: ({ keyId, signs }) => (signs ? `${keyId} *` : keyId) },
  { title: "FROM", text: ({ announcedBy }) => (announcedBy === "" ? "settings" : `announced by ${announcedBy}`) },
  { title: "VALID", text: ({ counts }) => (counts ? "yes" : "no") },
  { title: "SINCE", text: ({ notBefore }) => timeText(notBefore) },
  { title: "UNTIL", text: ({ notAfter }) => timeText(notAfter) },
  { title: "PUBLIC KEY", isWide: true, text: ({ publicKey }) => Buffer.from(publicKey).toString("base64") },
];

export const list: VerbFunction = async ({ flags, out, client }) => {
  const clusterId = flags.text("clusterId") ?? "";
  const { keys, servedBy } = await readPages(flags, ["keys"], (page) => client().call(PeerService.method.keys, { clusterId, ...page }));
  const json = { servedBy, keys: keys.map((key) => wholeJson(ClusterKeySchema, key)) };
  const whenEmpty = `${servedBy} does not trust any keys${clusterId === "" ? "" : ` of ${clusterId}`}: add them to summary.keys or fabric.borders[].keys in its settings`;
  out.document(json, { columns: KEY_COLUMNS, rows: keys, whenEmpty });
  if (!out.isMachine && keys.some(({ signs }) => signs)) out.note(`* ${servedBy} signs with this key`);
};

export const announce: VerbFunction = async ({ environment, flags, out }) => {
  const [cluster = "", keyFile = "", newKeyFile = ""] = ["clusterId", "keyFile", "newKeyFile"].map((name) => flags.text(name));
  if (!ID.pattern.test(cluster)) throw new UsageError(`invalid --cluster-id ${cluster}: expected ${ID.what}`);
  const forMs = flags.durationMs("for") ?? 0;
  if (forMs < 1 || forMs > MAX_FOR_MS) throw new UsageError(`invalid --for ${flags.text("for")}: expected a duration from 1ms to 3650d`);
  const notBeforeWallMs = Date.now();
  const times = { notBeforeWallMs, notAfterWallMs: notBeforeWallMs + forMs };
  let announced: AnnouncedKey;
  try {
    announced = await environment.announceKey({ cluster, keyFile: newKeyFile, byFile: keyFile, ...times });
  } catch (error) {
    throw new CommandError(error instanceof Error ? error.message : String(error), EXIT.usage, error);
  }
  const { pem, keyId, publicKey, announcedBy } = announced;
  const [notBefore, notAfter] = [times.notBeforeWallMs, times.notAfterWallMs].map((ms) => new Date(ms).toISOString());
  out.json({ clusterId: cluster, keyId, publicKey, announcedBy, notBefore, notAfter, block: pem });
  if (out.isMachine) return;
  out.raw(pem);
  out.note(
    `${announcedBy} announces ${keyId} for cluster ${cluster}, valid from ${notBefore} until ${notAfter}. Next steps:`,
    `1. append this block to ${keyFile} and to ${newKeyFile}, and send SIGHUP to every signing node of ${cluster}`,
    `2. run waymark summary keys list --cluster-id ${cluster} against a node of each other region; when all of them show ${keyId}, replace ${keyFile} with ${newKeyFile} and send SIGHUP again`,
    `3. before ${notAfter}, add public_key = "${publicKey}" to summary.keys, or to fabric.borders[].keys, of every node, and then remove the old key`,
  );
};
