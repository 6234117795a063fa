/** Verbs that divide namespaces into shards, and show and change the shards. */
import { fromJson, type MessageInitShape } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  type Shard,
  type ShardOwner,
  ShardService,
  type ShardServiceSetShardRequest,
  type ShardState,
  ShardStatus,
  ShardStrategy,
  SimulatedOwnerSchema,
} from "../../../gen/waymark/control/v1/shard_pb.js";
import { enumWord } from "../../lib/enum-words.ts";
import { counted } from "../../lib/text/visible-text.ts";
import { readMessageFile } from "../entries/file.ts";
import { readInput } from "../environment.ts";
import { UsageError } from "../exit.ts";
import type { Flags } from "../flags.ts";
import { timeText, wholeJson } from "../messages.ts";
import type { TableColumn } from "../output.ts";
import { noteMore, readPages } from "../pages.ts";
import { followStream } from "../streams.ts";
import type { VerbContext, VerbFunction } from "../table/verb.ts";
import { shortDuration } from "../texts.ts";

const MAX_FILE_BYTES = 1024 * 1024;
const MAX_EPOCH = Number.MAX_SAFE_INTEGER;

const { method } = ShardService;

interface ShownShard extends Shard {
  readonly target: string;
}

const COLUMNS: readonly TableColumn<ShownShard>[] = [
  { title: "SHARD", text: ({ namespace, id }) => `${namespace}/${id}` },
  { title: "STATUS", text: ({ status }) => enumWord(ShardStatus, status) },
  { title: "OWNER", text: ({ owner }) => owner || "-" },
  { title: "NEXT", text: ({ nextOwner }) => nextOwner || "-" },
  { title: "TARGET", text: ({ target }) => target },
  { title: "NODE", isWide: true, text: ({ nodeId }) => nodeId },
  { title: "FENCE", text: ({ fence }) => fenceText(fence) },
  { title: "EPOCH", text: ({ epoch }) => String(epoch) },
  { title: "SINCE", text: ({ movedAt }) => timeText(movedAt) },
  { title: "WEIGHT", isWide: true, text: ({ weight }) => String(weight) },
  { title: "HINT", isWide: true, text: ({ hint }) => hint },
  { title: "THROTTLED", isWide: true, text: ({ throttled }) => (throttled ? "yes" : "no") },
  { title: "TICKET", isWide: true, text: ({ ticket }) => ticket },
  { title: "REASON", text: ({ reason }) => reason },
];

function fenceText(fence: ShardState["fence"]): string {
  return fence === undefined ? "-" : `${fence.failoverVersion}.${fence.storeEpoch}.${fence.number}`;
}

/** `draining a → b (0.7.41)` */
function stateText(state: ShardState | undefined): string {
  if (state === undefined) return "";
  const next = state.nextOwner === "" ? "" : ` → ${state.nextOwner}`;
  return `${enumWord(ShardStatus, state.status)} ${state.owner || "-"}${next} (${fenceText(state.fence)})`;
}

function withTargets(shards: readonly Shard[], owners: readonly ShardOwner[]): readonly ShownShard[] {
  const targets = new Map(owners.map(({ namespace, instance, target }) => [`${namespace}/${instance}`, target]));
  return shards.map((shard) => ({ ...shard, target: targets.get(`${shard.namespace}/${shard.owner}`) ?? "" }));
}

export const apply: VerbFunction = async ({ environment, flags, out, client }) => {
  const file = flags.text("file") ?? "";
  const message = readMessageFile(await readInput(environment, file, MAX_FILE_BYTES, "--file"), method.apply.input, file);
  const answer = await client().call(method.apply, { ...message, ...changeOf(flags) });
  out.document(wholeJson(method.apply.output, answer), {
    columns: [
      { title: "NAMESPACE", text: ({ namespace }) => namespace },
      { title: "EPOCH", text: ({ epoch }) => String(epoch) },
      { title: "SHARDS", text: ({ settings }) => String(settings?.count ?? 0) },
      { title: "SERVICE", text: ({ settings }) => settings?.service ?? "" },
      { title: "STRATEGY", text: ({ settings }) => enumWord(ShardStrategy, settings?.strategy ?? 0) },
      { title: "OWNERS", text: ({ ownerCount }) => String(ownerCount) },
      { title: "UNOWNED", text: ({ unownedCount }) => String(unownedCount) },
      { title: "CHECKSUM", isWide: true, text: ({ checksum }) => checksum },
    ],
    rows: answer.set === undefined ? [] : [answer.set],
  });
};

/** The flags of a change. They replace the values in a file. */
function changeOf(flags: Flags) {
  const [epoch, reason, ticket] = [flags.count("expect", MAX_EPOCH), flags.text("reason"), flags.text("ticket")];
  return { ...(epoch !== undefined && { expectedEpoch: BigInt(epoch) }), ...(reason && { reason }), ...(ticket && { ticket }) };
}

export const list: VerbFunction = async ({ args: [namespace = ""], flags, out, client }) => {
  const [ofOwner = "", text = ""] = [flags.text("owner"), flags.text("text")];
  const filter = { namespace, owner: ofOwner, statuses: flags.enums("status", ShardStatus), text };
  const answer = await readPages(flags, ["shards", "owners", "sets"], (page) => client().call(method.list, { ...filter, ...page }));
  const table = { columns: COLUMNS, rows: withTargets(answer.shards, answer.owners), whenEmpty: "no shards" };
  out.document(wholeJson(method.list.output, answer), table);
  if (out.isMachine) return;
  // Each page contains the sets of its shards.
  for (const { namespace: name, epoch, settings, ownerCount, unownedCount } of new Map(
    answer.sets.map((each) => [each.namespace, each]),
  ).values()) {
    const counts = `${counted(settings?.count ?? 0, "shard")}, ${counted(ownerCount, "owner")}, ${unownedCount} without an owner`;
    out.note(`${name}: epoch ${epoch}, ${counts}`);
  }
  const age = answer.store?.age;
  if (age !== undefined && durationMs(age) > 0) out.note(`the control store has not answered for ${shortDuration(age)}`);
};

export const get: VerbFunction = async (context) => {
  const { namespace, id } = shardOf(context.args[0]);
  await show(context, { namespace, shard: { case: "id", value: id } });
};

export const owner: VerbFunction = async (context) => {
  const [namespace = "", key = ""] = context.args;
  // Node.js replaces invalid UTF-8 in arguments with U+FFFD.
  if (key.includes("\uFFFD")) throw new UsageError("the key is not valid UTF-8, or contains U+FFFD");
  await show(context, { namespace, shard: { case: "key", value: key } });
};

async function show({ out, client }: VerbContext, request: MessageInitShape<typeof method.get.input>): Promise<void> {
  const answer = await client().call(method.get, request);
  const rows = answer.shard === undefined ? [] : withTargets([answer.shard], answer.owners);
  out.document(wholeJson(method.get.output, answer), { columns: COLUMNS, rows });
}

/** Parses `<namespace>/<id>`. */
function shardOf(text = "") {
  const { namespace, id } = /^(?<namespace>[^/]+)\/(?<id>\d{1,5})$/.exec(text)?.groups ?? {};
  if (namespace === undefined) throw new UsageError(`invalid shard ${text}: expected namespace/id, such as orders/12`);
  return { namespace, id: Number(id) };
}

export const diff: VerbFunction = async ({ args: [namespace = ""], flags, out, client }) => {
  const fromEpoch = BigInt(flags.count("from", MAX_EPOCH) ?? 0);
  let toEpoch = BigInt(flags.count("to", MAX_EPOCH) ?? 0);
  const answer = await readPages(flags, ["shards"], async (page) => {
    const read = await client().call(method.diff, { namespace, fromEpoch, toEpoch, ...page });
    ({ toEpoch } = read);
    return read;
  });
  out.document(wholeJson(method.diff.output, answer), {
    columns: [
      { title: "SHARD", text: ({ id }) => String(id) },
      { title: "BEFORE", text: ({ before }) => stateText(before) },
      { title: "AFTER", text: ({ after }) => stateText(after) },
    ],
    rows: answer.shards,
    whenEmpty: `no shard differs between the epochs ${fromEpoch} and ${toEpoch}`,
  });
};

export const history: VerbFunction = async ({ args: [namespace = ""], flags, out, client }) => {
  const answer = await readPages(flags, ["changes"], (page) => client().call(method.history, { namespace, ...page }), 0);
  out.document(wholeJson(method.history.output, answer), {
    columns: [
      { title: "EPOCH", text: ({ epoch }) => String(epoch) },
      { title: "CHANGED AT", text: ({ changedAt }) => timeText(changedAt) },
      { title: "BY", text: ({ actor }) => actor },
      { title: "SHARDS", text: ({ shards }) => shards.map(({ id }) => id).join(", ") || "-" },
      { title: "TICKET", text: ({ ticket }) => ticket },
      { title: "REASON", text: ({ reason }) => reason },
    ],
    rows: answer.changes,
    whenEmpty: "no changes",
  });
  noteMore(out, answer);
};

export const watch: VerbFunction = async (context) => {
  const { environment, out, client } = context;
  const [namespace = ""] = context.args;
  let afterEpoch = 0n;
  const open = () => client().stream(method.watch, { namespace, afterEpoch }, { signal: environment.interrupt });
  for await (const message of followStream(context, open)) {
    const rows = withTargets(message.shards, message.owners);
    out.line(wholeJson(method.watch.output, message), { columns: COLUMNS, rows });
    if (message.epoch > 0n) afterEpoch = message.epoch;
  }
};

export const set: VerbFunction = async ({ args, flags, out, client }) => {
  const { namespace, id } = shardOf(args[0]);
  const answer = await client().call(method.setShard, { namespace, id, change: shardChange(flags), ...changeOf(flags) });
  const rows = answer.shard === undefined ? [] : withTargets([answer.shard], []);
  out.document(wholeJson(method.setShard.output, answer), { columns: COLUMNS.filter(({ title }) => title !== "TARGET"), rows });
};

const remove: VerbFunction = async ({ args: [namespace = ""], flags, out, client }) => {
  const answer = await client().call(method.delete, { namespace, ...changeOf(flags) });
  out.document(wholeJson(method.delete.output, answer), { columns: [{ title: "DELETED", text: () => namespace }], rows: [answer] });
};

export { remove as delete };

/** Exactly one of the flags is given. */
function shardChange(flags: Flags): ShardServiceSetShardRequest["change"] {
  const [status, weight, hint] = [flags.enum("status", ShardStatus), flags.text("weight"), flags.text("hint")];
  if ([status || undefined, weight, hint].filter((value) => value !== undefined).length !== 1)
    throw new UsageError("exactly one of --status, --weight and --hint is required");
  if (hint !== undefined) return { case: "hint", value: hint };
  if (weight === undefined) return { case: "status", value: status };
  if (!/^\d{1,9}(?:\.\d{1,6})?$/.test(weight)) throw new UsageError(`invalid --weight ${weight}: expected a number such as 2 or 0.5`);
  return { case: "weight", value: Number(weight) };
}

export const simulate: VerbFunction = async ({ args: [namespace = ""], flags, out, client }) => {
  const strategy = flags.enum("strategy", ShardStrategy);
  const owners = flags.list("add").map(addedOwner);
  const answer = await client().call(method.simulate, { namespace, strategy, owners, removedOwners: [...flags.list("remove")] });
  out.document(wholeJson(method.simulate.output, answer), {
    columns: [
      { title: "SHARD", text: ({ id }) => `${namespace}/${id}` },
      { title: "BEFORE", text: ({ before }) => before || "-" },
      { title: "AFTER", text: ({ after }) => after || "-" },
    ],
    rows: answer.moves,
    whenEmpty: "",
  });
  const { moves, movedRatio, planCount, imbalanceRatioBefore, imbalanceRatioAfter } = answer;
  if (out.isMachine) return;
  out.note(
    `${counted(moves.length, "shard")} would move (${(movedRatio * 100).toFixed(1)} %) in ${counted(planCount, "plan")}`,
    `the fullest owner has ${imbalanceRatioBefore.toFixed(2)} × its fair share before, and ${imbalanceRatioAfter.toFixed(2)} × after`,
  );
};

/** Parses `d`, `d:weight=2` or `d:weight=2,zone=eu-1a,region=eu,slots=100`. The names are fields of the message. */
function addedOwner(text: string) {
  const { instance = "", facts } = /^(?<instance>.+?)(?::(?<facts>[a-z]+=.*))?$/.exec(text)?.groups ?? {};
  const fields = facts?.split(",").map((fact): [string, string] => [fact.split("=")[0] ?? "", fact.slice(fact.indexOf("=") + 1)]) ?? [];
  try {
    return fromJson(SimulatedOwnerSchema, { instance, ...Object.fromEntries(fields) });
  } catch (error) {
    throw new UsageError(`invalid --add ${text}: expected instance or instance:weight=2,zone=a,region=b,slots=100`, { cause: error });
  }
}
