/** The verbs for the program itself: version, help and completion. */
import { EXIT, UsageError } from "../exit.ts";
import type { VerbFunction } from "../table/verb.ts";

export const version: VerbFunction = async ({ environment, out }) => {
  const facts = { version: environment.version, node: process.versions.node };
  if (out.isMachine) out.json(facts);
  else out.raw(`waymark ${facts.version} (node ${facts.node})\n`);
};

/** Does nothing, because `run.ts` prints the help. */
export const help: VerbFunction = async () => EXIT.done;

export const completion: VerbFunction = async ({ args, out, completionOf }) => {
  const [shell] = args;
  if (shell !== "bash" && shell !== "zsh" && shell !== "fish")
    throw new UsageError(`unknown shell "${shell ?? ""}": expected bash, zsh or fish`);
  out.raw(await completionOf(shell));
};
