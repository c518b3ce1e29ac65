Feature: Stopping finishes what runs, and returning finishes the rest
  The first part of contract, section 5: stopping the agent detaches nothing.

  @failpoints
  Scenario: SIGTERM finishes what runs
    Given an agent whose work waits 1000 milliseconds once
    And the agent starts
    When a create job of 16 MiB for "running" is sent
    And PENDING has come
    And the agent is asked to stop
    Then it ends well
    And a volume is attached at "running"
    When the agent starts
    Then it is answered PENDING and DONE, and nothing else

  Scenario: Stopping detaches nothing
    Given a running agent
    And a volume of 16 MiB at "stays"
    And a file at "stays/precious"
    When the agent is stopped
    Then a volume is attached at "stays"
    And the file "stays/precious" is as it was
    When the agent starts
    And a delete job for "stays" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  Scenario: A burst of jobs is finished over a stop in its middle
    Given a running agent
    When 24 create jobs of 16 MiB for different mount points are sent at once
    And the agent is stopped
    And the agent starts
    Then all of them are DONE
    And 24 volumes are attached

  @failpoints
  Scenario: A create that was cut off is done anew when the agent returns
    Given an agent whose work kills it once
    And the agent starts
    When a create job of 16 MiB for "cut" is sent
    Then the agent is dead
    When the agent starts without failing steps
    Then it is DONE in the end
    And a volume is attached at "cut"
    When a delete job for "cut" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left
