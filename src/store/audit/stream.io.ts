/** The JSON-lines file of the audit log: lines appended without anybody waiting for them, what cannot be written is counted. */
import { constants, type FileHandle, open } from "node:fs/promises";
import { messageOf } from "../database-file.io.ts";

/** Lines waiting for a file that does not take them; above it they are lost. In UTF-16 units. */
const MAX_WAITING_LENGTH = 16 << 20;
/** How a file that is there is opened. Never waits for a reader: a named pipe that nobody reads is a failure like any other. */
export const APPENDING = constants.O_WRONLY | constants.O_APPEND | constants.O_NONBLOCK;

/** One file, written in order. Nothing here throws or waits. */
export class AuditStream {
  readonly #path: string;
  #waiting: string[] = [];
  #waitingLength = 0;
  #handle: FileHandle | undefined;
  #mustReopen = false;
  /** A failed write may have left part of a line: the next begins on a line of its own. */
  #isLineOpen = false;
  #writing: Promise<void> | undefined;
  #lostCount = 0;
  #fault = "";

  constructor(path: string) {
    this.#path = path;
  }

  /** Why the file took nothing last time, in the system's words; empty when it took it. */
  get fault(): string {
    return this.#fault;
  }

  /** Whether something is on its way to the file, so that the other answers will be others soon. */
  get isBusy(): boolean {
    return this.#writing !== undefined;
  }

  /** Lines that were not written. */
  get lostCount(): number {
    return this.#lostCount;
  }

  /** Appends lines, each with its newline, soon. */
  write(lines: readonly string[]): void {
    const text = lines.join("");
    if (this.#waitingLength + text.length > MAX_WAITING_LENGTH) {
      this.#lostCount += lines.length;
      return;
    }
    this.#waiting.push(...lines);
    this.#waitingLength += text.length;
    this.#start();
  }

  /** Opens the path before the next line, or again when the file was moved away: whether it can be had is known soon after. */
  reopen(): void {
    this.#mustReopen = true;
    this.#start();
  }

  /** Resolves when all lines so far are written or lost, and the file is closed. */
  async close(): Promise<void> {
    await this.#writing;
    await this.#closeHandle();
  }

  #start(): void {
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0 || this.#mustReopen) {
      if (this.#mustReopen) {
        this.#mustReopen = false;
        await this.#closeHandle();
        this.#isLineOpen = false;
      }
      const lines = this.#waiting;
      this.#waiting = [];
      this.#waitingLength = 0;
      if (!(await this.#append(lines.join("")))) this.#lostCount += lines.length;
    }
  }

  async #append(text: string): Promise<boolean> {
    try {
      this.#handle ??= await open(this.#path, APPENDING | constants.O_CREAT, 0o600);
      const bytes = Buffer.from(this.#isLineOpen ? `\n${text}` : text);
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await this.#handle.write(bytes, at);
        at += bytesWritten;
        this.#isLineOpen = at < bytes.length;
      }
      this.#fault = "";
      return true;
    } catch (error) {
      // Full, forbidden, or gone: counted by the caller. The next lines try the path anew.
      this.#fault = messageOf(error);
      await this.#closeHandle();
      return false;
    }
  }

  async #closeHandle(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    try {
      await handle?.close();
    } catch {
      // What a disk says when it is late: the lines it concerns cannot be told apart any more.
      this.#lostCount++;
    }
  }
}
