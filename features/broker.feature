@broker
Feature: A broker that goes away costs no job and no answer
  Contract, section 2: the agent's session is persistent, a broker that is away is awaited for ever, and answers wait
  in the journal until the broker has acknowledged them. Senders repeat what was not answered, and that causes no work.

  Scenario Outline: Jobs for an agent that <was> wait in a broker that is restarted meanwhile
    Given a broker of its own
    And a running agent
    And a volume of 16 MiB at "before"
    When the agent <was>
    And a create job of 16 MiB for "meanwhile" is sent
    And the broker is stopped
    And the broker comes back
    And a delete job for "before" is sent
    And the agent starts
    Then both are answered PENDING and DONE, and nothing else
    And a volume is attached at "meanwhile"
    And no volume is attached at "before"

    Examples:
      | was        |
      | is stopped |
      | is killed  |

  Scenario: A broker that is not there at the start is awaited by an agent that is ready
    Given a broker of its own
    And a running agent
    And a volume of 16 MiB at "a" named "a"
    When the agent is stopped
    And the broker is killed
    And the agent starts without its broker, and says that it is ready
    Then the volumes are:
      | name | place |
      | a    | a     |
    And `dvs check` says of the agent "limited" and "refused"
    When the broker comes back
    Then the retained presence is online, with a version and the store of this run
    And `dvs check` says of the agent "ok" and "connected"
    When a create job of 16 MiB for "b" is sent
    Then it is answered PENDING and DONE, and nothing else

  @failpoints
  Scenario Outline: An answer for which there was no broker is sent after a restart of an agent that <was>
    Given a broker of its own
    And an agent whose work waits 1000 milliseconds once
    And the agent starts
    When a create job of 16 MiB for "slow" is sent
    And PENDING has come
    And the broker is killed
    And the volume at "slow" is attached in the end
    And the agent <was>
    And the broker comes back
    And the agent starts
    Then DONE comes, and never PENDING after it

    Examples:
      | was        |
      | is stopped |
      | is killed  |

  Scenario: A reason for which there was no broker is sent after a restart
    Given a broker of its own
    And a running agent
    And a file "file"
    When the agent is held
    And a create job of 16 MiB for "file" is sent
    And a create job of 0 MiB for "none" is sent
    And the broker is killed
    And the agent goes on, and answers 2 jobs with nobody there to tell
    And the agent is killed
    And the broker comes back
    And the agent starts
    Then the first fails with "conflict"
    And the last fails with "bad-request"

  Scenario: Another client that takes the agent's id is reported, and the agent returns slower and slower
    Given a running agent
    When another client takes the agent's id 5 times, each time that the agent is back
    Then `dvs check` says of the agent "limited" and "another client probably uses the id"
    And its log says once "another client probably uses the id"
    And the agent returns, and each time it took longer
    And `dvs check` says of the agent "ok" and "connected"
    When a create job of 16 MiB for "a" is sent
    Then it is answered PENDING and DONE, and nothing else

  @serial @failpoints
  Rule: Nothing is lost and nothing is done twice while 50 jobs run

    Background:
      Given a broker of its own
      And an agent whose work waits 300 milliseconds each time
      And the agent starts
      And 25 volumes of 16 MiB at different mount points
      And 5 senders send 50 jobs at once, to delete these and to create as many others of 16 MiB

    Scenario: The broker is stopped, and comes back with what it has saved
      When 5 of them are DONE
      And the broker is stopped
      And the agent works on meanwhile
      And the broker comes back
      Then exactly the 25 others are there in the end, although nothing was sent again
      When what was not answered is sent again until 50 of them are DONE
      Then all of them are DONE
      When each of them is sent once more
      Then all of them are DONE
      And exactly the 25 others are there, each as it was when it was first seen

    Scenario: The broker is stopped again and again
      When 5 of them are DONE
      And the broker is stopped
      And the agent works on meanwhile
      And the broker comes back
      And what was not answered is sent again until 15 of them are DONE
      And the broker is stopped
      And the broker comes back
      And what was not answered is sent again until 25 of them are DONE
      And the broker is stopped
      And the broker comes back
      And what was not answered is sent again until 50 of them are DONE
      Then all of them are DONE
      When each of them is sent once more
      Then all of them are DONE
      And exactly the 25 others are there, each as it was when it was first seen

    Scenario: The broker is killed again and again, and comes back knowing nothing
      When 5 of them are DONE
      And the broker is killed
      And the agent works on meanwhile
      And the broker comes back
      And what was not answered is sent again until 15 of them are DONE
      And the broker is killed
      And the broker comes back
      And what was not answered is sent again until 25 of them are DONE
      And the broker is killed
      And the broker comes back
      And what was not answered is sent again until 50 of them are DONE
      And the agent is online again
      Then all of them are DONE
      When each of them is sent once more
      Then all of them are DONE
      And exactly the 25 others are there, each as it was when it was first seen

    Scenario: Broker and agent are killed together, and the broker knows nothing
      When 5 of them are DONE
      And the broker is killed
      And the agent works on meanwhile
      And the agent is killed
      And the broker comes back
      And the agent starts
      And what was not answered is sent again until 50 of them are DONE
      Then all of them are DONE
      When each of them is sent once more
      Then all of them are DONE
      And exactly the 25 others are there, each as it was when it was first seen
