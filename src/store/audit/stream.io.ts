/** The JSON-lines file of the audit log. Callers do not wait until its lines are written. Lines that cannot be written are counted. */
import { constants, type FileHandle, open } from "node:fs/promises";
import { messageOf } from "../database-file.io.ts";

/** Maximum length of the text that is queued if the file is slow, in UTF-16 units. Further lines are lost. */
const MAX_WAITING_LENGTH = 16 << 20;
/**
 * Flags with which an existing file is opened. With these flags, opening never waits for a reader: a named pipe without a reader causes an ordinary
 * failure.
 */
export const APPENDING = constants.O_WRONLY | constants.O_APPEND | constants.O_NONBLOCK;

/** One file, to which lines are written in order. No method throws, and only `close` waits for the file. */
export class AuditStream {
  readonly #path: string;
  #waiting: string[] = [];
  #waitingLength = 0;
  #handle: FileHandle | undefined;
  #mustReopen = false;
  /** Whether a failed write may have left part of a line. If so, the next line starts with a newline. */
  #isLineOpen = false;
  #writing: Promise<void> | undefined;
  #lostCount = 0;
  #fault = "";

  constructor(path: string) {
    this.#path = path;
  }

  /** The operating system's error for the last lines that could not be written. Empty if the most recent lines were written. */
  get fault(): string {
    return this.#fault;
  }

  /** Whether lines are being written, so that `fault` and `lostCount` may change soon. */
  get isBusy(): boolean {
    return this.#writing !== undefined;
  }

  /** Number of lines that could not be written so far. */
  get lostCount(): number {
    return this.#lostCount;
  }

  /** Appends lines, each of which ends with a newline, in the background. */
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

  /** Opens the path again, after the previous file was moved away. The result is known only a short time later. */
  reopen(): void {
    this.#mustReopen = true;
    this.#start();
  }

  /** Resolves when all lines so far have been written or lost and the file is closed. */
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
      // The disk is full, or the file is missing or inaccessible. The caller counts the lost lines, and the next lines try the path again.
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
      // A failed write may be reported only at this point, without an indication of which lines failed, so one line is counted.
      this.#lostCount++;
    }
  }
}
