/**
 * A process that opens a database, writes, checkpoints, stops, and does all of it once more, while the tests note its system calls:
 * `node crash-child.ts journal|control|audit DIRECTORY`. What was acknowledged is told by the names of empty files in the directory.
 */
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { openSqliteStore } from "../../src/store/control/sqlite.io.ts";
import { openLog, recordAll } from "./audit-fixture.ts";
import { batch, openAndReplay, put } from "./journal-fixture.ts";

const [kind = "", directory = ""] = process.argv.slice(2);
/** More than what makes a checkpoint due. */
const LARGE = new Uint8Array(1_200_000);

function acknowledged(last: number): void {
  writeFileSync(join(directory, `acked-${last}`), "");
}

async function journalLife(): Promise<void> {
  const { journal } = await openAndReplay(directory);
  let seq = journal.restored.lastSeq;
  const write = async (record: Uint8Array) => {
    seq++;
    await journal.write(batch({ puts: [put(`k${seq}`, seq, { record })] }));
    acknowledged(seq);
  };
  await write(new Uint8Array(10));
  const isFirst = seq === 1;
  await write(isFirst ? LARGE : new Uint8Array(10));
  if (isFirst) while (statSync(join(directory, "journal.db-wal")).size > LARGE.length) await pause(10);
  await write(new Uint8Array(10));
  await journal.close();
}

async function controlLife(): Promise<void> {
  await using store = await openSqliteStore(directory);
  for (let round = 0; round < 3; round++) {
    const version = (await store.get("counter"))?.version ?? 0;
    const changes = ["counter", "twin"].map((key) => ({ key, value: new Uint8Array(10) }));
    const { isCommitted, revision } = await store.transact([{ key: "counter", version }], changes);
    if (isCommitted) acknowledged(revision / changes.length);
  }
}

async function auditLife(): Promise<void> {
  await using log = await openLog(directory);
  const { head } = await log.verify();
  for (let number = head.number + 1; number <= head.number + 3; number++) {
    await recordAll(log, ["an act"]);
    acknowledged(number);
  }
}

const LIVES: Readonly<Record<string, () => Promise<void>>> = { journal: journalLife, control: controlLife, audit: auditLife };

for (let life = 0; life < 2; life++) await LIVES[kind]?.();
