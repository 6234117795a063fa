/** The types of a verb: its row in the VERBS table, and its function. */
import type { Client } from "../../client/client.ts";
import type { Environment } from "../environment.ts";
import type { ExitCode } from "../exit.ts";
import type { Flags } from "../flags.ts";
import type { CommandOutput } from "../output.ts";

export type CompletionShell = "bash" | "zsh" | "fish";

export interface VerbContext {
  readonly environment: Environment;
  /** Positional arguments. Optional arguments that are absent at the end are left out. */
  readonly args: readonly string[];
  readonly flags: Flags;
  readonly out: CommandOutput;
  /** Opens the client on first use; the caller closes it. */
  readonly client: () => Client;
  /** `--tenant`, as the viewer of a read. */
  readonly viewer: { readonly viewer?: { readonly tenantId: string } };
  /** The completion script of a shell. It is passed in, because it is made from the table of verbs, which verbs must not import. */
  readonly completionOf: (shell: CompletionShell) => Promise<string>;
}

/** A verb. Undefined means success. */
export type VerbFunction = (context: VerbContext) => Promise<ExitCode | undefined>;

export interface FlagSpec {
  /** The flags in the form of commander: `-f, --file <file>`. */
  readonly flags: string;
  readonly doc: string;
  readonly isRepeatable?: true;
  readonly choices?: readonly string[];
  readonly isRequired?: true;
  /** If the flag is repeated, the last value is used, so that a script can override a command line. Other flags must not be repeated. */
  readonly isOverridable?: true;
  /** An empty value has a meaning. For other flags, an empty value is an error, because it usually comes from an unset shell variable. */
  readonly mayBeEmpty?: true;
}

export interface ArgSpec {
  /** `<name>` required, `[name]` optional, `[name...]` several. */
  readonly name: string;
  readonly doc: string;
  readonly choices?: readonly string[];
}

export interface VerbSpec {
  /** Words after `waymark`. */
  readonly path: string;
  /** Whether the verb needs no server, so that the client is not loaded. */
  readonly isAlone?: true;
  readonly summary: string;
  /** Whether the group runs this verb if no other word follows. */
  readonly isDefault?: true;
  readonly args?: readonly ArgSpec[];
  readonly flags?: readonly FlagSpec[];
  /** Command (without `waymark`) and its effect. */
  readonly examples: readonly (readonly [command: string, does: string])[];
  readonly load: () => Promise<VerbFunction>;
}
