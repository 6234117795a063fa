/** Verbs about the command itself: version, completion. */
import { EXIT, UsageError } from "../exit.ts";
import type { Verb } from "../verb.ts";

export const version: Verb = async ({ world, out }) => {
  const facts = { version: world.version, node: process.versions.node };
  if (out.isMachine) out.document(facts, { columns: [], rows: [] });
  else out.raw(`waymark ${facts.version} (node ${facts.node})\n`);
  return EXIT.done;
};

/** `run.ts` answers this one itself, for it has the commands. */
export const help: Verb = async () => EXIT.done;

export const completion: Verb = async ({ args, out }) => {
  const [shell] = args;
  if (shell !== "bash" && shell !== "zsh" && shell !== "fish") throw new UsageError(`${shell ?? ""}: none of bash, zsh, fish`);
  // It lists all settings that are flags: too much for who asks for the version.
  const { completionScript } = await import("../completion.ts");
  out.raw(completionScript(shell));
  return EXIT.done;
};
