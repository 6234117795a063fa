/** `summary keys`: which keys of clusters a node trusts, and the announcement of a new one. */
import { type ClusterKey, ClusterKeySchema, PeerService } from "../../../gen/waymark/control/v1/peer_pb.js";
import { ID } from "../../config/field.ts";
import { DAY_MS } from "../../lib/duration.ts";
import type { AnnouncedKey } from "../environment.ts";
import { CommandError, EXIT, UsageError } from "../exit.ts";
import { timeText, wholeJson } from "../messages.ts";
import type { TableColumn } from "../output.ts";
import { readPages } from "../pages.ts";
import type { VerbFunction } from "../table/verb.ts";

/** A key that is good for longer should stand in the settings. */
const MAX_FOR_MS = 3650 * DAY_MS;

const KEY_COLUMNS: readonly TableColumn<ClusterKey>[] = [
  { title: "CLUSTER", stored: ({ clusterId }) => clusterId },
  { title: "REGION", stored: ({ region }) => region },
  { title: "KEY", stored: ({ keyId, signs }) => (signs ? `${keyId} *` : keyId) },
  { title: "FROM", stored: ({ announcedBy }) => (announcedBy === "" ? "settings" : `announced by ${announcedBy}`) },
  { title: "COUNTS", stored: ({ counts }) => (counts ? "yes" : "no") },
  { title: "SINCE", stored: ({ notBefore }) => timeText(notBefore) },
  { title: "UNTIL", stored: ({ notAfter }) => timeText(notAfter) },
  { title: "PUBLIC KEY", isWide: true, stored: ({ publicKey }) => Buffer.from(publicKey).toString("base64") },
];

export const list: VerbFunction = async ({ flags, out, client }) => {
  const clusterId = flags.text("clusterId") ?? "";
  const { keys, servedBy } = await readPages(flags, ["keys"], (page) => client().call(PeerService.method.keys, { clusterId, ...page }));
  const json = { servedBy, keys: keys.map((key) => wholeJson(ClusterKeySchema, key)) };
  const whenEmpty = `${servedBy} trusts no key${clusterId === "" ? "" : ` of ${clusterId}`}; summary.keys and fabric.borders[].keys of its settings name them`;
  out.document(json, { columns: KEY_COLUMNS, rows: keys, whenEmpty });
  if (!out.isMachine && keys.some(({ signs }) => signs)) out.note(`* ${servedBy} signs with it`);
};

export const announce: VerbFunction = async ({ environment, flags, out }) => {
  const [cluster = "", keyFile = "", newKeyFile = ""] = ["clusterId", "keyFile", "newKeyFile"].map((name) => flags.text(name));
  if (!ID.pattern.test(cluster)) throw new UsageError(`--cluster-id ${cluster}: not ${ID.what}`);
  const forMs = flags.durationMs("for") ?? 0;
  if (forMs < 1 || forMs > MAX_FOR_MS) throw new UsageError(`--for ${flags.text("for")}: not a duration from 1ms to 3650d`);
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
    `${announcedBy} announces ${keyId} of ${cluster} from ${notBefore} until ${notAfter}. What to do now:`,
    `1. put this block behind the key in ${keyFile} and in ${newKeyFile}, and send SIGHUP to every node of ${cluster} that signs`,
    `2. ask a node of each other region: waymark summary keys list --cluster-id ${cluster}; when all of them show ${keyId}, put the new file in the place of the old one, and send SIGHUP again`,
    `3. until ${notAfter}, add public_key = "${publicKey}" to summary.keys, or to keys of the border, of every node, and then take the old key out`,
  );
};
