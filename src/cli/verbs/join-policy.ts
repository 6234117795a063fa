/** The verbs `mesh join-policy apply` and `mesh join-policy show`. */
import { BootstrapService, JoinPolicySchema } from "../../../gen/waymark/control/v1/bootstrap_pb.js";
import { visibleJson } from "../../lib/text/visible-text.ts";
import { readMessageFile } from "../entries/file.ts";
import { readInput } from "../environment.ts";
import { messageJson, timeText } from "../messages.ts";
import type { VerbFunction } from "../table/verb.ts";

const { method } = BootstrapService;

/** YAML with comments is larger than the JSON that the server stores. */
const MAX_FILE_BYTES = 262_144;
const MAX_VERSION = 4_294_967_295;

export const apply: VerbFunction = async ({ args: [file = ""], environment, flags, out, client }) => {
  const policy = readMessageFile(await readInput(environment, file, MAX_FILE_BYTES), JoinPolicySchema, file);
  const { version } = await client().call(method.applyJoinPolicy, { policy, expectedVersion: flags.count("expect", MAX_VERSION) ?? 0 });
  out.json({ version });
  out.note(`version ${version} of the join policy is in force, with ${policy.rules.length} rules`);
};

export const show: VerbFunction = async ({ out, client }) => {
  const { policy, version, appliedBy, appliedAt } = await client().call(method.getJoinPolicy, {});
  const json = policy === undefined ? {} : messageJson(JoinPolicySchema, policy);
  if (out.isMachine) out.json(json);
  else out.raw(`${visibleJson(JSON.stringify(json, undefined, 2))}\n`);
  if (policy === undefined) out.note("there is no join policy: every program with a join token can join");
  else out.note(`version ${version}, applied by ${appliedBy || "-"} at ${timeText(appliedAt)}`);
};
