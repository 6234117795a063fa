/** Verbs that show the settings of running nodes, compare two nodes, and let a server check a settings file. */
import {
  ConfigFormat,
  ConfigService,
  ConfigServiceGetResponseSchema,
  ConfigServiceValidateResponseSchema,
  type Setting,
} from "../../../gen/waymark/control/v1/config_pb.js";
import type { ClientCalls } from "../../client/calls.ts";
import { type ClusterNode, clusterNodes } from "../cluster-nodes.ts";
import { readInput } from "../environment.ts";
import { CommandError, EXIT, UsageError } from "../exit.ts";
import { wholeJson } from "../messages.ts";
import type { TableColumn } from "../output.ts";
import type { VerbFunction } from "../table/verb.ts";

const MAX_TEXT_BYTES = 256 * 1024;

const yesNo = (isSo: boolean): string => (isSo ? "yes" : "no");

const SETTING_COLUMNS: readonly TableColumn<Setting>[] = [
  { title: "SETTING", text: ({ key }) => key },
  { title: "VALUE", text: ({ value }) => value },
  { title: "FROM", text: ({ origin }) => origin },
  { title: "TYPE", isWide: true, text: ({ valueType }) => valueType },
  { title: "RELOADABLE", isWide: true, text: ({ reloadable }) => yesNo(reloadable) },
  { title: "PER NODE", isWide: true, text: ({ perNode }) => yesNo(perNode) },
];

export const show: VerbFunction = async ({ flags, out, client }) => {
  const answer = await client().call(ConfigService.method.get, {});
  const wanted = flags.text("origin") ?? "";
  const isWanted = (origin: string) => (wanted === "non-default" ? origin !== "default" : origin.startsWith(wanted));
  answer.settings = answer.settings.filter(({ origin }) => isWanted(origin));
  if (!out.isMachine)
    out.note(
      `${answer.servedBy}: digest ${answer.configDigest}, ${answer.policyNumber === 0n ? "no policy" : `policy ${answer.policyNumber}`}`,
    );
  out.document(wholeJson(ConfigServiceGetResponseSchema, answer), { columns: SETTING_COLUMNS, rows: answer.settings });
};

/** A setting that differs between two nodes, with its value on each. */
interface DifferentSetting {
  readonly key: string;
  readonly perNode: boolean;
  readonly values: Readonly<Record<string, string>>;
}

export const diff: VerbFunction = async ({ args, flags, out, client }) => {
  const isAll = flags.isOn("allKeys");
  const nodes = await clusterNodes(client());
  const settings = await Promise.all(args.map((nodeId) => settingsOf(nodeId, nodes, client())));
  const keys = new Set(settings.flatMap((each) => [...each.keys()]));
  const rows = [...keys].flatMap((key): readonly DifferentSetting[] => {
    const pair = settings.map((each) => each.get(key));
    // The digest leaves out secrets and fields that differ between nodes. A key that only one version has counts as not set on the other node.
    const compared = new Set(pair.map((setting) => (isAll ? setting?.value : setting?.digest) ?? ""));
    const values = Object.fromEntries(args.map((nodeId, at) => [nodeId, pair[at]?.value ?? ""]));
    return compared.size === 1 ? [] : [{ key, perNode: pair.some((setting) => setting?.perNode === true), values }];
  });
  out.document(
    { settings: rows },
    {
      columns: [
        { title: "SETTING", text: ({ key }) => key },
        ...args.map((nodeId) => ({ title: nodeId, text: ({ values }: DifferentSetting) => values[nodeId] || "-" })),
        { title: "PER NODE", isWide: true, text: ({ perNode }) => yesNo(perNode) },
      ],
      rows,
      whenEmpty: `${args.join(" and ")} have the same settings${isAll ? "" : ", apart from secrets and settings that differ between nodes"}`,
    },
  );
  return rows.length === 0 ? EXIT.done : EXIT.failed;
};

async function settingsOf(nodeId: string, nodes: readonly ClusterNode[], client: ClientCalls): Promise<ReadonlyMap<string, Setting>> {
  const node = nodes.find((each) => each.nodeId === nodeId);
  if (node === undefined) {
    const known = nodes.map((each) => each.nodeId).join(", ");
    throw new CommandError(`unknown node ${nodeId}: the cluster of the server has ${known}`, EXIT.notFound);
  }
  if (node.server === undefined) throw new CommandError(`cannot ask ${nodeId}: ${node.fault}`, EXIT.unreachable);
  const { settings } = await client.callAt(node.server, ConfigService.method.get, {});
  return new Map(settings.map((setting) => [setting.key, setting]));
}

export const validate: VerbFunction = async ({ environment, args: [file = ""], out, client }) => {
  const format = file.endsWith(".json") ? ConfigFormat.JSON : file.endsWith(".toml") ? ConfigFormat.TOML : undefined;
  if (format === undefined) throw new UsageError(`invalid settings file ${file}: the name must end in .toml or .json`);
  const text = await readInput(environment, file, MAX_TEXT_BYTES);
  const answer = await client().call(ConfigService.method.validate, { text, format });
  const { problems, warnings } = answer;
  if (out.isMachine) out.json(wholeJson(ConfigServiceValidateResponseSchema, answer));
  else for (const { key, message } of problems) out.error(key === "" ? message : `${key}: ${message}`);
  for (const warning of warnings) out.note(`warning: ${warning}`);
  if (problems.length > 0) return EXIT.usage;
  out.note(`${file} is valid on the server's version; the server did not read the files that the settings name`);
  return EXIT.done;
};
