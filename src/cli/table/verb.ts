/** What a verb is: a row of the VERBS table, and the function behind it. */
import type { Client } from "../../client/client.ts";
import type { Environment } from "../environment.ts";
import type { Exit } from "../exit.ts";
import type { Flags } from "../flags.ts";
import type { Output } from "../output.ts";

export type Shell = "bash" | "zsh" | "fish";

export interface VerbContext {
  readonly environment: Environment;
  /** Positional arguments; an absent optional one is an empty list's end. */
  readonly args: readonly string[];
  readonly flags: Flags;
  readonly out: Output;
  /** Opens the client at first use; the caller closes it. */
  readonly client: () => Client;
  /** `--tenant`, as the viewer of a read. */
  readonly viewer: { readonly viewer?: { readonly tenantId: string } };
  /** The completion script of a shell. It is written from the table of commands, which a command does not import, as the table names it. */
  readonly completionOf: (shell: Shell) => Promise<string>;
}

export type Verb = (context: VerbContext) => Promise<Exit>;

export interface FlagSpec {
  /** As commander writes it: `-f, --file <file>`. */
  readonly flags: string;
  readonly doc: string;
  readonly isRepeatable?: true;
  readonly choices?: readonly string[];
  readonly isRequired?: true;
  /** Given twice, the last one counts, so that whoever calls a command of somebody else's can override it; elsewhere that is a mistake. */
  readonly isOverridable?: true;
  /** An empty value says something, and not that a variable of the shell was not set. */
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
  /** Asks no server: the client need not be loaded. */
  readonly isAlone?: true;
  readonly summary: string;
  /** Also what its group does when it is called without a word more. */
  readonly isDefault?: true;
  readonly args?: readonly ArgSpec[];
  readonly flags?: readonly FlagSpec[];
  /** Command (without `waymark`) and what it does. */
  readonly examples: readonly (readonly [command: string, does: string])[];
  readonly load: () => Promise<Verb>;
}
