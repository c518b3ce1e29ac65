//! What happens when its time has come.

use super::World;
use super::agenda::Happening;
use super::kernel::Mount;
use super::life::Cut;
use crate::scenario::What;

impl World {
    /// Puts the scenario on the agenda.
    pub(crate) fn plan_scenario(&mut self) {
        for planned in self.scenario.messages.clone() {
            self.plan(&planned);
        }
        for (index, at) in self.scenario.steps.iter().map(|step| step.at).enumerate().collect::<Vec<_>>() {
            self.agenda.put(at, Happening::Step(index));
        }
    }

    /// Does what is due now. False when nothing more is.
    pub(crate) fn happen(&mut self) -> bool {
        let now = self.now();
        let Some(happening) = self.agenda.take_due(now) else { return false };
        match happening {
            Happening::Step(index) => self.take_step(self.scenario.steps[index].what.clone()),
            Happening::Publish(message) => self.publish(message),
            Happening::Impatient(message) => self.be_impatient(message),
            Happening::BrokerBack => self.bring_broker_back(),
            Happening::Connected { life } => self.connected(life),
            Happening::Delivered { connection, delivery } => self.delivered(connection, delivery),
            Happening::TakenAcknowledged { connection, delivery } => {
                self.taken_acknowledged(connection, delivery);
            }
            Happening::Answered { connection, answer } => self.answered(connection, answer),
            Happening::AnswerAcknowledged { connection, answer } => {
                self.answer_acknowledged(connection, answer);
            }
        }
        true
    }

    fn take_step(&mut self, what: What) {
        match what {
            What::Publish { message } => self.publish(message),
            What::ContainerMade { name, path, volume, running } => {
                self.make_container(name, &path, volume, running);
            }
            What::ContainerGone { name } => self.end_container(name),
            What::FileOpened { path } => {
                if self.kernel.open_file(&path) {
                    self.say(format_args!("a process opens a file in {path}"));
                }
            }
            What::FileClosed { path } => self.kernel.close_file(&path),
            What::NamespaceMade { path } => {
                if self.kernel.take_along(format!("ns {path}"), &path) {
                    self.say(format_args!("a mount namespace takes {path} along"));
                }
            }
            What::NamespaceGone { path } => self.kernel.end_namespace(&format!("ns {path}")),
            What::ForeignMounted { path } => {
                if self.kernel.top(&path).is_none() && self.disk.directories.contains(&path) {
                    self.say(format_args!("somebody mounts something at {path}"));
                    self.kernel.mount(&path, Mount::Foreign);
                }
            }
            What::ForeignUnmounted { path } => self.kernel.unmount(&path, Mount::Foreign),
            What::BrokerAway { milliseconds, forgets } => self.take_broker_away(milliseconds, forgets),
            What::Reconnect => self.disconnect(),
            What::EngineSilent { milliseconds } => {
                self.say(format_args!("engine is silent for {milliseconds} ms"));
                self.engine_silent_for(milliseconds);
            }
            What::StoreAway { store, milliseconds } => {
                self.say(format_args!("store {store} is away for {milliseconds} ms"));
                self.store_away_for(store, milliseconds);
            }
            What::StoreFull { store, milliseconds } => {
                self.say(format_args!("store {store} is full for {milliseconds} ms"));
                self.store_full_for(store, milliseconds);
            }
            What::VolumeDamaged { store, which } => self.damage(store, which),
            What::JournalFull { milliseconds } => {
                self.say(format_args!("journal is full for {milliseconds} ms"));
                self.journal_full_for(milliseconds);
            }
            What::JournalBroken { milliseconds } => {
                self.say(format_args!("journal is broken for {milliseconds} ms"));
                self.journal_broken_for(milliseconds);
            }
            What::Crash { power, down_milliseconds } => {
                self.cut(Cut { power, down_milliseconds }, "any moment");
            }
            What::Stop { down_milliseconds } => self.tell_to_stop(down_milliseconds),
            What::Arm(armed) => self.faults.arm(armed),
        }
    }

    fn damage(&mut self, store: usize, which: usize) {
        let volumes = &mut self.disk.stores[store].volumes;
        let count = volumes.len().max(1);
        let Some((name, image)) = volumes.iter_mut().nth(which % count) else { return };
        image.damaged = true;
        let name = name.clone();
        self.say(format_args!("volume {name} of store {store} is damaged"));
    }

    fn tell_to_stop(&mut self, down_milliseconds: u64) {
        let Some(stop) = &self.life.stop else { return };
        stop.send_replace(true);
        self.life.is_stopping = true;
        self.life.stays_down_milliseconds = down_milliseconds;
        self.counts.stops += 1;
        self.say(format_args!("agent is told to stop, and stays down for {down_milliseconds} ms"));
    }

    /// From now on nothing goes wrong any more. What was damaged is mended, who held volumes lets go.
    pub(crate) fn heal(&mut self) {
        self.say(format_args!("everything heals"));
        self.healed = true;
        self.faults.heal();
        self.bring_broker_back();
        self.end_all_containers();
        self.kernel.end_users();
        for folder in &mut self.disk.stores {
            folder.volumes.values_mut().for_each(|image| image.damaged = false);
        }
    }
}
